import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense import attacks as A


def linear(weights):
    """Two classes, the second one's lead is x @ weights: the best linf attack moves every pixel by epsilon."""
    inputs = keras.Input((len(weights),))
    layer = keras.layers.Dense(2, use_bias=False)
    model = keras.Model(inputs, layer(inputs))
    layer.set_weights([np.stack([np.zeros(len(weights)), weights], -1)])
    return model


def perturbed(trainer, x, y):
    x_adv, rows = tf.function(trainer.perturb)(tf.constant(x), tf.constant(y))
    return x_adv.numpy(), rows.numpy()


@pytest.mark.parametrize("attack", [A.FGSM(0.1), A.BIM(0.1, steps=4), A.PGD(0.1, steps=8, random_start=True)])
def test_linear_model_is_moved_along_the_signs_of_its_weights(attack):
    weights = np.array([1.0, -2.0, 0.5], "float32")
    x, y = np.full((4, 3), 0.5, "float32"), np.array([0, 1, 0, 1])
    x_adv, rows = perturbed(td.AdversarialTraining(linear(weights), attack), x, y)
    away = np.where(y[:, None] == 0, 1, -1) * np.sign(weights)
    np.testing.assert_allclose(x_adv, 0.5 + 0.1 * away, atol=1e-6)
    assert rows.all()


def test_attack_beside_the_graph_does_not_wait_for_ever(classifier, held_out, monkeypatch):
    monkeypatch.setenv("TF_NUM_INTEROP_THREADS", "1")
    with pytest.raises(ValueError, match="DeepFool runs beside the training step.*Set TF_NUM_INTEROP_THREADS=2"):
        perturbed(td.AdversarialTraining(classifier, A.DeepFool()), held_out.x[:2], held_out.y[:2])


def test_step_inside_the_graph_is_that_of_the_attack(classifier, defended, held_out):
    x, y = held_out.x[200:232], held_out.y[200:232]
    for model in (classifier, defended):
        attack = A.PGD(0.5, norm="l2", steps=5, starts="sample")
        inside, _ = perturbed(td.AdversarialTraining(model, attack), x, y)
        before, after = (td.evaluate(model, samples, y).accuracy for samples in (x, inside))
        assert after < before - 0.2
        assert np.linalg.norm((inside - x).reshape(32, -1), axis=-1).max() <= 0.5 + 1e-5
        if os.environ.get("TF_NUM_INTEROP_THREADS") == "1":
            continue
        # An attack that knows no graph is called as it is, on the same model.
        other = A.DeepFool(steps=3) if model is classifier else A.OrthogonalPGD(0.3, steps=3, starts="sample")
        beside, _ = perturbed(td.AdversarialTraining(model, other), x, y)
        np.testing.assert_allclose(beside, other(model, x, y).x_adv, atol=1e-5)


def test_steps_inside_the_graph_end_where_those_of_the_attack_do(classifier, held_out):
    """But for samples of which a point on the way was better: called, the attack gives that one."""
    x, y = held_out.x[:60], held_out.y[:60]
    for attack in (A.PGD(0.1, steps=5, step_size=0.02, objective=A.Margin()), A.PGD(0.5, norm="l2", steps=5, step_size=0.1)):
        inside, _ = perturbed(td.AdversarialTraining(classifier, attack), x, y)
        called = attack(classifier, x, y, regardless=True).x_adv
        alike = np.isclose(inside, called, atol=1e-5).all((1, 2, 3))
        objective = attack.objective_on(td.view.View.of(classifier, None))
        ends = [objective.value(classifier(samples), None, tf.constant(y), None, (1.0, 1.0)) for samples in (inside, called)]
        assert alike.mean() > 0.7 and (ends[0] >= ends[1] - 1e-4).numpy().all()


def test_share_and_mixture(classifier, held_out):
    x, y = np.repeat(held_out.x[:1], 400, 0), np.repeat(held_out.y[:1], 400)
    attacks = [A.FGSM(0.1), A.FGSM(0.3)]
    x_adv, rows = perturbed(td.AdversarialTraining(classifier, attacks, share=0.5), x, y)
    size = np.abs(x_adv - x).reshape(400, -1).max(-1)
    assert 0.4 < rows.mean() < 0.6 and np.array_equal(size > 0, rows)
    assert {0.1, 0.3} == set(size[rows].astype(float).round(4).tolist())
    assert 0.35 < (size[rows] > 0.2).mean() < 0.65


def test_each_step_draws_anew_and_an_interrupted_training_draws_what_an_unbroken_one_does(tmp_path):
    x, y = np.full((32, 3), 0.5, "float32"), np.arange(32) % 2

    def trainer():
        made = td.AdversarialTraining(linear(np.array([1.0, -2.0, 0.5], "float32")), A.FGSM(0.1), share=0.5, seed=3)
        made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return made

    unbroken, seen = trainer(), []
    for step in range(3):
        seen.append(perturbed(unbroken, x, y)[1])
        unbroken.fit(x, y, batch_size=32, shuffle=False, verbose=0)
        if step == 1:
            unbroken.save_weights(tmp_path / "backup.weights.h5")
    assert not any(np.array_equal(first, second) for first, second in zip(seen, seen[1:], strict=False))
    resumed = trainer()
    np.testing.assert_array_equal(perturbed(resumed, x, y)[1], seen[0])
    resumed.fit(x, y, batch_size=32, shuffle=False, verbose=0)  # an optimizer takes its state only after it was built
    resumed.load_weights(tmp_path / "backup.weights.h5")
    np.testing.assert_array_equal(perturbed(resumed, x, y)[1], seen[2])


def test_fit_makes_a_model_harder_to_fool_and_save_writes_it_alone(classifier, digits, held_out, tmp_path):
    plain = keras.models.clone_model(classifier)
    plain.set_weights(classifier.get_weights())
    attack = A.PGD(0.15, steps=10)
    x, y = held_out.x[:150], held_out.y[:150]
    before = 1 - attack(plain, x, y).success.mean()
    trainer = td.AdversarialTraining(plain, A.PGD(0.15, steps=3, random_start=True), share=0.7)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    history = trainer.fit(digits.x, digits.y, batch_size=64, epochs=6, verbose=0).history
    assert history["accuracy"][-1] > history["accuracy"][0] + 0.1
    assert 1 - attack(plain, x, y).success.mean() > before + 0.2, "the weights are shared: the plain model is the trained one"
    trainer.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded).__name__ == "Functional"
    np.testing.assert_allclose(loaded.predict(x, verbose=0), plain.predict(x, verbose=0), atol=1e-6)


def test_defended_model_is_trained_on_its_scores_and_its_callbacks_see_it(defended, digits, held_out):
    model = keras.models.clone_model(defended)
    model.set_weights(defended.get_weights())
    trainer = td.AdversarialTraining(model, A.FGSM(0.1, objective=A.Evade()), share=0.5)
    trainer.compile("adam", loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    old = [weight.copy() for weight in model.get_weights()]
    calibrate = td.callbacks.CalibrateRejection(held_out.x[:200], max_rejected=0.1)
    trainer.fit(digits.x[:128], digits.y[:128], epochs=1, verbose=0, callbacks=[calibrate])
    assert any(not np.array_equal(a, b) for a, b in zip(old, model.get_weights(), strict=True))
    assert 0.05 <= td.evaluate(model, held_out.x[:200], held_out.y[:200]).rejection <= 0.1


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_starts_fill_the_ball_and_follow_from_the_seed_of_each_sample(norm):
    features, count = 5, 4000
    view = td.view.View.of(linear(np.zeros(features, "float32")))
    x, y = np.full((count, features), 0.5, "float32"), np.zeros(count, "int32")
    seeds = np.random.default_rng(0).integers(2**31, size=count, dtype="int32")
    perturb = tf.function(A.PGD(0.4, norm=norm, steps=1, step_size=1e-9, random_start=True).online(view))
    points = perturb(tf.constant(x), tf.constant(y), tf.constant(seeds)).numpy() - 0.5
    # In a ball that is filled evenly the share of it that is nearer to the middle is uniform: a test of Kolmogorov and Smirnov.
    nearer = np.sort((A.norms.NORMS[norm].distance(points) / 0.4) ** features)
    assert np.abs(nearer - (np.arange(count) + 0.5) / count).max() < 1.63 / np.sqrt(count)
    # Alike to all sides: means, correlations of values and of sizes that chance would exceed once in thousands of times.
    far = 4 / np.sqrt(count)
    assert np.abs(points.mean(0) / points.std(0)).max() < far
    assert np.abs(np.corrcoef(points.T) - np.eye(features)).max() < far
    assert np.ptp(points.std(0)) < 0.1 * points.std()
    few = np.array([3999, 7, 7])
    again = perturb(*(tf.constant(array[few]) for array in (x, y, seeds))).numpy() - 0.5
    np.testing.assert_array_equal(again, points[few])


@pytest.mark.parametrize("attack", [A.PGD(1.0, "l2", steps=4, objective=A.Margin()), A.DynamicAdversary(0.2, sigma=0.3, steps=4)])
def test_steps_that_stand_one_by_one_and_a_loop_of_them_end_at_one_point(attack, defended, held_out, monkeypatch):
    x, y, view = tf.constant(held_out.x[:16]), tf.constant(held_out.y[:16], tf.int32), td.view.View.of(defended)
    ends = []
    for most in (4, 3):
        monkeypatch.setattr(A.searches.loop, "UNROLLED", most)
        perturb = tf.function(attack.online(view)).get_concrete_function(x, y, y)
        assert any("While" in one.type for one in perturb.graph.get_operations()) == (most < attack.steps)
        ends.append(perturb(x, y, y).numpy())
    assert np.abs(ends[0] - held_out.x[:16]).max() > 0.1
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-5)


@pytest.mark.parametrize(
    ("attacks", "options", "message"),
    [
        ([], {}, "Expected attacks, such as"),
        ([A.FGSM(0.1), "fgsm"], {}, "Expected attacks, such as .*Received: 'fgsm'"),
        (A.WorstCase([A.FGSM(0.1)]), {}, "Expected attacks.*In training a list does"),
        (A.FGSM(0.1), {"share": 0}, "`share` must be above 0 and at most 1. Received: 0"),
    ],
)
def test_bad_settings(classifier, attacks, options, message):
    with pytest.raises(ValueError, match=message):
        td.AdversarialTraining(classifier, attacks, **options)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (A.Transfer(A.WorstCase([A.FGSM(0.1)]), source=tf.identity), r"Received Transfer\(WorstCase\). Give a list"),
        (A.PGD(0.1, starts="all"), "begins at the sample.*Received starts='all'"),
        (A.PGD(0.1, starts=("sample", "random")), r"Received starts=\('sample', 'random'\)"),
    ],
)
def test_what_training_cannot_do_is_told_and_not_done_otherwise(classifier, digits, attack, words):
    trainer = td.AdversarialTraining(classifier, attack)
    trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match=words):
        trainer.fit(digits.x[:8], digits.y[:8], verbose=0)


def test_samples_that_no_attack_would_keep_are_refused(classifier, digits):
    x, y = digits.x[:8], digits.y[:8]
    trainer = td.AdversarialTraining(classifier, A.FGSM(0.1))
    trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [weight.copy() for weight in classifier.get_weights()]
    broken = x.copy()
    broken[3, 0] = np.nan
    for wrong, words in (
        (255 * x, r"`x` must lie in \(0, 1\). Received values in \[0, 255\]. Rescale, or pass `bounds=\(0, 255\)`"),
        (tf.constant(x - 1), "`x` must lie in"),
        (broken, "Expected finite samples. 1 of 8 hold NaN or infinity, the first is number 3"),
        (x[:, :4], "Expected samples of shape"),
    ):
        with pytest.raises(ValueError, match=words):
            trainer.fit(wrong, y, verbose=0)
    np.testing.assert_equal(classifier.get_weights(), before)
    within = td.AdversarialTraining(keras.models.clone_model(classifier), A.FGSM(9.0), bounds=(0, 255))
    within.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    assert np.isfinite(within.fit(np.uint8(255 * x), y, verbose=0).history["loss"][0])


def test_one_hot_labels_are_refused(classifier, digits):
    trainer = td.AdversarialTraining(classifier, A.FGSM(0.1))
    trainer.compile("adam", keras.losses.CategoricalCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="Expected integer classes, one a sample"):
        trainer.fit(digits.x[:8], np.eye(10)[digits.y[:8]], verbose=0)


@pytest.fixture
def branched(classifier, digits):
    """A copy of the classifier with a branch that tells attacked samples from clean ones."""
    base = keras.models.clone_model(classifier)
    base.set_weights(classifier.get_weights())
    defended = td.AdversaryDetector("conv", width=8, seed=0, threshold=0.0).attach(base)
    trainer = td.DetectorTraining(defended)
    trainer.compile(keras.optimizers.Adam(3e-3))
    x, y = digits.x[:256], digits.y[:256]
    trainer.fit(*td.adversarial_pairs(base, A.FGSM(0.2), x, y), batch_size=64, epochs=6, verbose=0)
    return defended


def test_detector_regularises_the_classifier_and_stays_as_it_is(branched, digits):
    x, y = digits.x[:256], digits.y[:256]
    suspected = {}
    branch = next(layer for layer in branched.layers if isinstance(layer, td.layers.DetectorBranch))
    kept, start = branch.get_weights(), td.base_model(branched).get_weights()
    for weight in (0.0, 2.0):
        model = td.base_model(branched)
        model.set_weights(start)
        keras.utils.set_random_seed(0)
        trainer = td.AdversarialTraining(model, A.FGSM(0.2), share=0.5, detector=branched, detector_weight=weight)
        trainer.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        before = model.get_weights()
        trainer.fit(x, y, batch_size=64, epochs=4, verbose=0)
        assert any(not np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
        assert all(np.array_equal(a, b) for a, b in zip(kept, branch.get_weights(), strict=True))
        attacked = A.FGSM(0.2)(model, x, y, regardless=True).x_adv
        suspected[weight] = (branched(attacked)["suspicion"].numpy() > 0).mean()
        assert td.evaluate(model, x, y).accuracy > 0.9
    assert suspected[2.0] < suspected[0.0] - 0.2, "the branch takes less of it for adversarial"


def test_loss_through_a_detector_is_that_of_its_log_odds(branched, digits):
    x, y, loss = digits.x[:32], digits.y[:32], keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = {}
    for weight in (0.0, 0.5):
        trainer = td.AdversarialTraining(td.base_model(branched), A.FGSM(0.1), detector=branched, detector_weight=weight)
        trainer.compile("sgd", loss)
        found[weight] = [float(trainer.compute_loss(x, y, trainer(x), training=training)) for training in (True, False)]
    odds = branched(x)["suspicion"].numpy()
    assert found[0.5][0] - found[0.0][0] == pytest.approx(0.5 * np.log1p(np.exp(odds)).mean(), rel=1e-4)
    assert found[0.5][1] == found[0.0][1], "what is validated is the classifier alone"


def test_detector_of_another_model_is_refused(classifier, branched):
    attack = A.FGSM(0.1)
    with pytest.raises(ValueError, match="`detector` must be attached to the model that is trained. Received '.*', whose branch"):
        td.AdversarialTraining(classifier, attack, detector=branched)
    with pytest.raises(ValueError, match="one detector branch"):
        td.AdversarialTraining(classifier, attack, detector=classifier)
    with pytest.raises(ValueError, match="`detector_weight` must be a finite number"):
        td.AdversarialTraining(td.base_model(branched), attack, detector=branched, detector_weight=-1.0)
