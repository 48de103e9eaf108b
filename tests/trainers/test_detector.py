"""Training a detector branch: what is trained, on what, and that it detects."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

A = td.attacks


def normalised():
    """A classifier with BatchNormalization and Dropout, whose statistics and noise a careless `fit` would use."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", name="conv")(inputs)
    x = keras.layers.ReLU(name="maps")(keras.layers.BatchNormalization(name="norm")(x))
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    x = keras.layers.BatchNormalization(name="norm_2")(x)
    return keras.Model(inputs, keras.layers.Dense(10, name="scores")(keras.layers.Flatten()(x)))


def weights(model):
    return [weight.copy() for weight in model.get_weights()]


def same(first, second):
    return [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]


def detector(model, layer="conv", seed=0, **options):
    return td.AdversaryDetector(layer, width=8, seed=seed, **options).attach(model)


@pytest.fixture(scope="module")
def static(classifier, digits):
    """Trained on digits and their adversarial pairs by BIM."""
    defended = detector(classifier, threshold=0.0)
    trainer = td.DetectorTraining(defended)
    trainer.compile(keras.optimizers.Adam(3e-3))
    keras.utils.set_random_seed(0)  # the order of the samples: by chance a static detector may be hard to fool too
    trainer.fit(*td.adversarial_pairs(classifier, A.BIM(0.2), digits.x[:700], digits.y[:700]), epochs=6, verbose=0)
    return defended


def detectability(defended, attack, x, y):
    x_adv = attack(defended, x, y).x_adv
    clean, attacked = (defended(samples)["suspicion"].numpy() for samples in (x, x_adv))
    return td.metrics.detectability(clean, attacked)


@pytest.mark.parametrize("layer", ["norm_2"])
@pytest.mark.parametrize("attacks", [A.DynamicAdversary(0.1), ()], ids=["dynamic", "static"])
def test_not_one_weight_of_the_classifier_moves_and_all_of_the_branch_do(layer, attacks, digits):
    model = normalised()
    defended = detector(model, layer)
    trainer = td.DetectorTraining(defended, attacks, benign=[("sign", 0.1)])
    trainer.compile(keras.optimizers.Adam(1e-2))
    before, all_before = weights(model), weights(defended)
    trainer.fit(digits.x[:128], digits.y[:128] if attacks else digits.y[:128] % 2, verbose=0)
    assert all(same(before, weights(model))), "the normalisation's moving averages count too"
    threshold = 1
    assert same(all_before, weights(defended)).count(True) == len(before) + threshold


def test_classifier_is_seen_in_inference_mode(digits):
    defended = detector(normalised(), "dropout")
    trainer = td.DetectorTraining(defended)
    inner = trainer.get_layer("frozen")
    np.testing.assert_array_equal(inner(digits.x[:4], training=True), inner(digits.x[:4]))
    np.testing.assert_allclose(trainer(digits.x[:4]), _log_odds(defended, digits.x[:4]), atol=1e-6)


def _log_odds(defended, x):
    next(layer for layer in defended.layers if isinstance(layer, td.layers.Threshold)).value.assign(0.0)
    return defended(x)["suspicion"]


def test_static_detector_detects_the_attack_it_was_fitted_on(static, classifier, held_out):
    x, y = held_out.x, held_out.y
    oblivious = A.Transfer(A.BIM(0.2))
    assert detectability(static, oblivious, x, y) > 0.9
    np.testing.assert_allclose(td.view.decide(static, x).scores, td.view.decide(classifier, x).scores, atol=1e-5)


def test_dynamic_adversary_gets_past_a_static_detector(static, held_out):
    x, y = held_out.x[:150], held_out.y[:150]
    fixed = A.DynamicAdversary(0.2, sigma=0.0, schedule="fixed")(static, x, y)
    both = A.DynamicAdversary(0.2, sigma=0.5)(static, x, y)
    # Of five seeds 0.04 with a deviation of 0.01, and 0.27 of 0.03; at other sigmas the second depends far more on the seed.
    assert fixed.success.mean() < 0.1 and both.success.mean() > fixed.success.mean() + 0.1
    # Sigma 1 leaves the classifier alone, and lowers the suspicion as nothing else does.
    alone = A.DynamicAdversary(0.2, sigma=1.0)(static, x, y)
    suspicion = [static(result.x_adv)["suspicion"].numpy().mean() for result in (alone, both, fixed)]
    assert suspicion[0] < suspicion[1] < suspicion[2]


@pytest.mark.long
def test_dynamic_training_makes_the_detector_hard_to_fool(classifier, digits, held_out):
    """One on pairs of the same size takes as many steps, and is none."""
    # Below that sigma the classifier's sign wins every pixel, and any detector knows the attack.
    attack = A.DynamicAdversary(0.3, sigma=0.45, schedule="fixed")

    def trained(attacks, samples, labels, epochs):
        defended = detector(classifier, threshold=0.0)
        trainer = td.DetectorTraining(defended, attacks)
        trainer.compile(keras.optimizers.Adam(3e-3))
        keras.utils.set_random_seed(0)
        trainer.fit(samples, labels, batch_size=64, epochs=epochs, verbose=0)
        return defended

    dynamic = trained(A.DynamicAdversary(0.3, steps=5, schedule="fixed"), digits.x, digits.y, 6)
    static = trained((), *td.adversarial_pairs(classifier, A.BIM(0.3, steps=5), digits.x, digits.y), 3)

    # Not at a threshold of 0: where that lies after so few epochs depends on the seed.
    def told(one):
        clean, attacked = (one(x)["suspicion"].numpy() for x in (held_out.x, attack(one, held_out.x, held_out.y).x_adv))
        return td.metrics.auc(clean, attacked)

    # Ten seeds and settings of oneDNN and threads gave 0.93 with a deviation of 0.03, and 0.69 of 0.06: 0.24 more of 0.07.
    on_the_fly, on_twins = told(dynamic), told(static)
    assert on_the_fly > 0.85 and on_the_fly > on_twins + 0.04, (on_the_fly, on_twins)


def test_batches_hold_attacked_harmless_and_untouched_samples(classifier, held_out):
    x, y = np.repeat(held_out.x[:1], 400, 0), np.repeat(held_out.y[:1], 400)
    trainer = td.DetectorTraining(detector(classifier), [A.FGSM(0.1), A.FGSM(0.3)], benign=[("dim", 0.5)])
    changed, attacked = tf.function(trainer.perturb)(tf.constant(x), tf.constant(y))
    size = np.abs(changed.numpy() - x).reshape(400, -1).max(1)
    dimmed = (changed.numpy() == x * 0.5).reshape(400, -1).all(1)
    attacked = attacked.numpy()
    assert 0.4 < attacked.mean() < 0.6 and not dimmed[attacked].any() and 0.35 < dimmed[~attacked].mean() < 0.65
    assert (size[~attacked & ~dimmed] == 0).all() and set(size[attacked].round(4).tolist()) <= {np.float32(0.1), np.float32(0.3)}
    np.testing.assert_array_equal(trainer.labels(y, tf.constant(attacked)), attacked)


@pytest.mark.parametrize("attack", [A.DeepFool(), A.FGSM(0.1)], ids=["smallest change", "ball"])
def test_what_an_attack_leaves_as_it_was_is_clean(attack, classifier, held_out):
    """What the classifier has wrong is attacked too, but has no smaller change than none."""
    x, y = held_out.x[:40], classifier(held_out.x[:40]).numpy().argmax(1).astype("int32")
    y[:20] = (y[:20] + 1) % 10
    samples, is_adversarial = td.adversarial_pairs(classifier, attack, x, y)
    moved = (samples[40:] != x).reshape(40, -1).any(1)
    assert moved[20:].all() and moved[:20].all() == isinstance(attack, A.FGSM) != (not moved[:20].any())
    np.testing.assert_array_equal(is_adversarial, np.concatenate([np.zeros(40), moved]))
    trainer = td.DetectorTraining(detector(classifier), attack, share=1.0)
    changed, attacked = trainer.perturb(tf.constant(x), tf.constant(y))
    np.testing.assert_array_equal(attacked, (changed.numpy() != x).reshape(40, -1).any(1))
    assert attacked.numpy()[20:].mean() > 0.9
    still = td.DetectorTraining(detector(classifier), A.FGSM(0.0), share=1.0)
    assert not still.perturb(tf.constant(x), tf.constant(y))[1].numpy().any()


@pytest.mark.long
def test_users_own_distribution_strategy_gives_the_weights_of_one_device(children, tmp_path):
    """Benign perturbations run beside the graph, and attacks draw their starts: both on each of the devices."""
    code = """
import contextlib
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tfdefense as td
x, y = np.random.default_rng(0).random((64, 8, 8, 1), dtype="float32"), np.arange(64) % 10
attacks = [td.attacks.DynamicAdversary(0.2, steps=2), td.attacks.PGD(0.2, steps=2, random_start=True)]

def fitted(scope):
    keras.utils.set_random_seed(0)
    with scope:
        inputs = keras.Input((8, 8, 1))
        maps = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, name="conv")(inputs))
        model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(maps)))
        defended = td.AdversaryDetector("conv", width=4, seed=0).attach(model)
        trainer = td.DetectorTraining(defended, attacks, benign=[("sign", 0.1), ("dim", 0.3)])
        trainer.compile(keras.optimizers.SGD(0.1))
        aside = td.DetectorTraining(defended, td.attacks.DeepFool())
        aside.compile()
    old = [[weight.copy() for weight in one.get_weights()] for one in (model, defended)]
    loss = trainer.fit(x, y, batch_size=32, shuffle=False, verbose=0).history["loss"][0]
    moved = [sum((a != b).any() for a, b in zip(was, one.get_weights())) for was, one in zip(old, (model, defended))]
    assert np.isfinite(loss) and moved == [0, len(old[1]) - len(old[0]) - 1], (loss, moved)
    return aside, [weight for weight in defended.get_weights() if np.isfinite(weight).all()]

_, one = fitted(contextlib.nullcontext())
aside, both = fitted(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope())
try:
    aside.fit(x, y, batch_size=32, verbose=0)
except ValueError as error:
    assert "Received a distribution strategy" in str(error), error
else:
    raise AssertionError("an attack beside the step was run on several devices")
print(len(one) == len(both), max(abs(a - b).max() for a, b in zip(one, both)))
"""
    ended = children.ended(children.start(code, log=tmp_path / "log"))
    told = (tmp_path / "log").read_text()
    assert ended == 0, told[-2000:]
    alike, apart = told.splitlines()[-1].split()
    assert alike == "True" and float(apart) < 1e-5


def test_without_attacks_only_clean_samples_are_changed(classifier, held_out):
    x, is_adversarial = np.repeat(held_out.x[:1], 200, 0), np.repeat([0, 1], 100)
    trainer = td.DetectorTraining(detector(classifier), benign=[("dim", 0.5)])
    changed, _ = tf.function(trainer.perturb)(tf.constant(x), tf.constant(is_adversarial))
    moved = (changed.numpy() != x).reshape(200, -1).any(1)
    assert 30 < moved[:100].sum() < 70 and not moved[100:].any()
    assert trainer.labels(is_adversarial, None) is is_adversarial


@pytest.mark.long
def test_attacks_on_the_fly_see_the_detector_or_inside_transfer_do_not(static, classifier, held_out):
    # What is wrong or rejected as it is, a call of the attack leaves alone and a training step does not.
    right = np.flatnonzero(td.view.decide(static, held_out.x).label == held_out.y)[:40]
    x, y = held_out.x[right], held_out.y[right]

    def run(attack):
        return tf.function(td.DetectorTraining(static, attack, share=1.0).perturb)(tf.constant(x), tf.constant(y))[0].numpy()

    np.testing.assert_allclose(run(A.Transfer(A.FGSM(0.2))), A.FGSM(0.2)(classifier, x, y).x_adv, atol=1e-6)
    for sigma in (0, 1):
        # Whole numbers as well.
        ends = A.DynamicAdversary(0.2, sigma=sigma)
        np.testing.assert_allclose(run(ends), ends(static, x, y).x_adv, atol=1e-5)
    aware = A.DynamicAdversary(0.2, sigma=0.8)
    np.testing.assert_allclose(run(aware), aware(static, x, y).x_adv, atol=1e-5)
    assert np.abs(run(A.FGSM(0.2, objective=A.Evade())) - run(A.Transfer(A.FGSM(0.2)))).max() > 0.1


def test_sigma_is_drawn_for_each_sample(static, held_out):
    x, y = np.repeat(held_out.x[:1], 200, 0), np.repeat(held_out.y[:1], 200)
    # A ball too large to matter: where classifier and detector disagree a pixel goes 1 - 2 sigma of a step along the classifier's.
    attack = A.DynamicAdversary(0.4, steps=1, step_size=0.02)
    trainer = td.DetectorTraining(static, attack, share=1.0)
    inside = tf.function(trainer.perturb)(tf.constant(x), tf.constant(y))[0].numpy()
    middle = (x[0] > 0.1) & (x[0] < 0.9)
    along, against = (
        np.sign(np.round(dataclasses.replace(attack, sigma=sigma)(static, x[:1], y[:1]).x_adv[0] - x[0], 5)[middle])
        for sigma in (0, 1)
    )
    disagree = along * against < 0
    assert disagree.any()
    for changed in (inside, attack(static, x, y).x_adv):
        moves = ((changed - x)[:, middle] * along)[:, disagree] / 0.02
        np.testing.assert_allclose(moves, np.repeat(moves[:, :1], disagree.sum(), 1), atol=1e-3)
        sigma = (1 - moves[:, 0]) / 2
        assert len(np.unique(sigma.round(4))) > 50
        # Uniform: of 200 these bounds are missed once in ten thousand times.
        assert sigma.min() < 0.06 and sigma.max() > 0.94 and abs(sigma.mean() - 0.5) < 0.08


def test_pipeline_trains_as_arrays_do(classifier, digits):
    x, y = digits.x[:96], digits.y[:96]

    def history(*data, **options):
        trainer = td.DetectorTraining(detector(classifier), A.DynamicAdversary(0.2, steps=2), benign=[("dim", 0.3)])
        trainer.compile()
        return trainer.fit(*data, epochs=2, verbose=0, **options).history

    expected = history(x, y, batch_size=32, shuffle=False)
    received = history(tf.data.Dataset.from_tensor_slices((x, y)).batch(32), shuffle=False)
    assert received.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, rtol=1e-4, err_msg=name)


def test_callbacks_act_on_the_defended_model(classifier, digits, held_out):
    """On the way as at the end, and not on the trainer, which gives log-odds alone."""
    defended = detector(classifier)
    aware = A.DynamicAdversary(0.2, sigma=0.45, steps=3)
    some = held_out.take(slice(100))
    callbacks = [
        td.callbacks.CalibrateRejection(held_out.x, 0.1, every_epoch=True),
        td.callbacks.RobustAccuracy(aware, some.x, some.y),
    ]
    trainer = td.DetectorTraining(defended, A.DynamicAdversary(0.2, steps=2))
    trainer.compile(keras.optimizers.Adam(3e-3))
    found = trainer.fit(digits.x[:256], digits.y[:256], epochs=2, verbose=0, callbacks=callbacks).history
    assert [len(found[name]) for name in ("rejection", "robust_accuracy", "robust_rejection")] == [2] * 3
    rejected = td.evaluate(defended, held_out.x, held_out.y).rejection
    assert found["rejection"][-1] == pytest.approx(rejected, abs=1e-6) and 0.02 < rejected <= 0.1
    result = td.evaluate(defended, aware(defended, some.x, some.y), some.y)
    assert found["robust_accuracy"][-1] == pytest.approx(result.robust_accuracy, abs=1e-6)


def test_false_positives_are_those_of_the_clean_samples():
    metric = td.trainers.detector.FalsePositiveRate()
    metric.update_state(np.array([0, 0, 0, 1, 1]), np.array([0.5, -1.0, -1.0, 3.0, 3.0], "float32"))
    metric.update_state(np.array([0, 1]), np.array([-0.5, 3.0], "float32"))
    assert float(metric.result()) == pytest.approx(0.25)


def test_interrupted_training_goes_on_from_its_backup(classifier, digits, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(*callbacks):
        defended = detector(classifier, seed=None)
        trainer = td.DetectorTraining(defended, A.DynamicAdversary(0.2, steps=2))
        trainer.compile()
        backup = keras.callbacks.BackupAndRestore(str(tmp_path), delete_checkpoint=False)
        history = trainer.fit(digits.x[:128], digits.y[:128], epochs=3, verbose=0, callbacks=[backup, *callbacks])
        return defended, trainer, history

    with pytest.raises(KeyboardInterrupt):
        fit(Stop())
    defended, trainer, history = fit()
    assert history.epoch == [1, 2] and int(trainer.optimizer.iterations) == 3 * 4
    again, _, history = fit()
    assert not history.epoch and all(same(weights(defended), weights(again))), "the backup holds the branch"


def test_save_writes_the_defended_model(static, held_out, tmp_path):
    trainer = td.DetectorTraining(static)
    trainer.save(tmp_path / "d.keras")
    for name, value in static(held_out.x).items():
        np.testing.assert_allclose(td.load(tmp_path / "d.keras")(held_out.x)[name], value, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda m, d: td.DetectorTraining(td.ThresholdDefense().attach(m)),
            "one detector branch. Received 'defended', which has 0",
        ),
        (lambda m, d: td.DetectorTraining(d, ["bim"]), "Expected attacks, such as"),
        (lambda m, d: td.DetectorTraining(d, A.DynamicAdversary(0.1), share=0), "`share` must be above 0"),
        (lambda m, d: td.AdversaryDetector(["conv"]), 'the name of one layer, such as "conv_2"'),
        (lambda m, d: td.AdversaryDetector("conv", width=0), "`width` must be a whole number"),
        (lambda m, d: td.AdversaryDetector("features").attach(m), "Layer 'features' can't be watched. .*feature maps"),
        (lambda m, d: td.AdversaryDetector("konv").attach(m), "no layer 'konv'. Nearest: conv"),
    ],
)
def test_bad_settings(classifier, make, words):
    with pytest.raises(ValueError, match=words):
        make(classifier, detector(classifier))


def test_labels_that_mean_something_else_are_told_before_training(classifier, digits):
    x, y = digits.x[:32], digits.y[:32]
    known = td.adversarial_pairs(classifier, A.FGSM(0.2), x, y)
    static, dynamic = (td.DetectorTraining(detector(classifier), *attacks) for attacks in ((), (A.FGSM(0.1),)))
    for trainer in (static, dynamic):
        trainer.compile()
        with pytest.raises(
            ValueError, match=r"Expected 0 \(clean\) or 1 \(adversarial\).*labels from 0 to 9. Pass `validation_data=td.adv"
        ):
            trainer.fit(*(known if trainer is static else (x, y)), validation_data=(x, y), verbose=0)
        with pytest.raises(ValueError, match=r"labels from 0 to 9. Pass what is attacked already: `trainer.evaluate\("):
            trainer.evaluate(x, y, verbose=0)
        told = trainer.evaluate(*known, verbose=0, return_dict=True)
        odds = trainer.predict(known[0], verbose=0).reshape(-1)
        assert told["detectability"] == pytest.approx(((odds > 0) == known[1]).mean())
    with pytest.raises(ValueError, match="labels from 0 to 9. For classes, say what attacks them"):
        static.fit(x, y, verbose=0)
    with pytest.raises(ValueError, match="attacked already. Received validation_split=0.2"):
        dynamic.fit(x, y, validation_split=0.2, verbose=0)
    with pytest.raises(ValueError, match="`class_weight` would weight the classes of the samples, not clean and attacked"):
        dynamic.fit(x, y, class_weight={0: 5.0, 1: 1.0}, verbose=0)
    static.fit(*known, class_weight={0: 5.0, 1: 1.0}, verbose=0)
    for trainer, data in ((static, known), (dynamic, (x, y))):
        history = trainer.fit(*data, validation_data=known, verbose=0).history
        assert "val_detectability" in history
    samples, labels = known
    found = []
    for kind in ("int32", "float32", "bool"):
        trainer = td.DetectorTraining(detector(classifier))
        trainer.compile()
        found.append(trainer.fit(samples, labels.astype(kind).reshape(-1, 1), shuffle=False, verbose=0).history["loss"][0])
    assert found[1] == pytest.approx(found[0]) and found[2] == pytest.approx(found[0])


def test_wrong_harmless_change_is_named_when_training_starts(classifier, digits):
    trainer = td.DetectorTraining(detector(classifier), A.FGSM(0.1), benign=[("blur", 1)])
    trainer.compile()
    with pytest.raises(ValueError, match="`kind` must be one of sign, gaussian.*Received 'blur'"):
        trainer.fit(digits.x[:8], digits.y[:8], verbose=0)
