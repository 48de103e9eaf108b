"""Attacks against models that can reject: what they aim at, where they start, what counts as success."""

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

A = td.attacks


@pytest.fixture(scope="module")
def rejecting(dustbin):
    return td.DustbinDefense().attach(dustbin)


@pytest.fixture(scope="module")
def samples(held_out):
    return held_out.x[:60], held_out.y[:60]


def test_evade_is_below_zero_exactly_on_success(defended, held_out):
    x, y = held_out.x, (held_out.y + (np.arange(len(held_out.y)) % 3 == 0)) % 10
    view = td.view.View.of(defended)
    scores, suspicion, label = view.run(x)
    for objective, scale in ((A.Evade(raw=True), (1.0, 1.0)), (A.Evade(), (3.0, 0.5))):
        value = objective.value(scores, suspicion, y.astype("int32"), None, scale).numpy()
        np.testing.assert_array_equal(value < 0, (label.numpy() != y) & (label.numpy() != -1))
    assert (value < 0).any() and (value > 0).any()


def test_raw_evade_is_the_larger_of_margin_and_suspicion():
    scores = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]], "float32")
    suspicion = np.array([-1.0, 0.5], "float32")
    y = np.array([0, 0], "int32")
    np.testing.assert_allclose(A.Evade(raw=True).value(scores, suspicion, y, None, (1.0, 1.0)), [2.0, 0.5])
    np.testing.assert_allclose(A.Margin().value(scores, suspicion, y, None, (1.0, 1.0)), [2.0, -2.0])
    np.testing.assert_allclose(A.Margin().value(scores, suspicion, y, np.array([1, 1], "int32"), None), [2.0, -1.0])
    wrong = np.log(np.exp(1.0) + np.exp(0.0))
    np.testing.assert_allclose(A.LogSumExp().value(scores[:1], None, y[:1], None, None), [3.0 - wrong], rtol=1e-6)
    # The threshold is at -1 + 3: a dustbin of that score.
    joined = np.log(np.exp(3.0) + np.exp(2.0)) - wrong
    np.testing.assert_allclose(A.LogSumExp().value(scores[:1], suspicion[:1], y[:1], None, None), [joined], rtol=1e-6)
    aimed = A.LogSumExp().value(scores[:1], suspicion[:1], y[:1], np.array([1], "int32"), None)
    np.testing.assert_allclose(aimed, [np.log(np.exp(3.0) + np.exp(0.0) + np.exp(2.0)) - 1.0], rtol=1e-6)
    np.testing.assert_allclose(
        A.CrossEntropy().value(scores[:1], None, y[:1], None, None), [3.0 - np.log(np.exp([3.0, 1.0, 0.0]).sum())], rtol=1e-5
    )


def test_evade_measures_the_spread_on_the_clean_samples(defended, samples):
    x, y = samples
    view, x, y = A.arguments.check(defended, x, y, None)
    scores, suspicion, _ = (tensor.numpy() for tensor in view.run(x))
    own = scores[np.arange(len(y)), y].copy()
    scores[np.arange(len(y)), y] = -np.inf
    margin, doubt = A.Evade().measure(view, x, y)
    assert margin == pytest.approx((own - scores.max(-1)).std(), rel=1e-4) and doubt == pytest.approx(suspicion.std(), rel=1e-4)
    assert A.Evade(raw=True).measure(view, x, y) == (1.0, 1.0)


def test_the_default_objective_knows_of_the_rejection(defended, classifier, samples):
    x, y = samples
    plain = td.view.View.of(classifier)
    assert A.PGD(0.1).objective_on(plain) == A.CrossEntropy()
    oblivious = A.Transfer(A.PGD(0.3, norm="l2", steps=20))(defended, x, y)
    adaptive = A.WorstCase([A.PGD(0.3, norm="l2", steps=20), A.PGD(0.3, norm="l2", steps=20, objective=A.LogSumExp())])(
        defended, x, y
    )
    crafted = A.PGD(0.3, norm="l2", steps=20)(td.base_model(defended), x, y, regardless=True)
    np.testing.assert_array_equal(oblivious.x_adv, crafted.x_adv)
    assert adaptive.success.sum() >= oblivious.success.sum()


def test_transfer_changes_what_its_source_has_wrong_too(classifier, samples):
    x, y = samples
    source = lambda batch: tf.roll(classifier(batch), 1, axis=-1)  # noqa: E731 - has each sample wrong
    attack = A.PGD(0.2, steps=5)
    assert attack(source, x, y).distance.max() == 0
    crafted = A.Transfer(attack, source=source)(classifier, x, y)
    assert crafted.distance.min() > 0.1
    np.testing.assert_array_equal(crafted.success, crafted.label != y)
    half = np.arange(len(x)) < 30
    some = A.Transfer(attack, source=source)(classifier, x, y, only=half)
    np.testing.assert_array_equal(some.distance > 0, half)


def test_rejected_samples_are_no_success(defended, samples):
    x, y = samples
    result = A.Transfer(A.DeepFool())(defended, x, y)
    # Just across the boundary the confidence is low: misclassified, and rejected.
    assert (result.label == -1).mean() > 0.8
    np.testing.assert_array_equal(result.success, (result.label != y) & (result.label != -1))
    farther = A.DeepFool()(defended, x, y)
    assert farther.success.mean() > 0.9 > result.success.mean()
    assert farther.distance[farther.success].mean() > result.distance.mean()


def test_more_starts_find_at_least_as_much(rejecting, samples):
    x, y = samples
    one = A.PGD(0.15, steps=10, starts=("sample",))(rejecting, x, y)
    every = A.PGD(0.15, steps=10)(rejecting, x, y)
    assert (every.success | ~one.success).all()
    # Who is not taken from one start gets the others too.
    assert (every.steps[~every.success] == 4 * 10).all() and (~every.success).any()
    assert (every.steps[one.success] <= 3 * 10).all()


def test_restarts_are_of_the_random_start_alone(rejecting, samples):
    x, y = samples[0][:12], samples[1][:12]
    once, thrice = (A.PGD(0.1, steps=3, starts="all", restarts=count)(rejecting, x, y) for count in (1, 3))
    assert (thrice.success | ~once.success).all() and (~thrice.success).any()
    assert (thrice.steps[~thrice.success] == (3 + 3) * 3).all() and (once.steps[~once.success] == 4 * 3).all()


@pytest.mark.parametrize("start", ["random", "interpolated"])
def test_each_start_begins_elsewhere_and_stays_in_the_ball(rejecting, samples, start):
    x, y = samples
    only = A.PGD(0.15, steps=1, step_size=1e-6, starts=(start,))(rejecting, x, y)
    moved = np.abs(only.x_adv - x).reshape(len(x), -1).max(-1)
    clean = rejecting(x)["label"].numpy() == y
    assert (moved[clean] > 0.01).mean() > 0.9 and moved.max() <= 0.15 + 1e-6


def test_interpolated_start_is_just_across_the_boundary(rejecting, samples):
    x, y = samples
    result = A.CarliniWagner(steps=1, binary_search_steps=1, starts=("interpolated",))(rejecting, x, y)
    assert result.success.mean() > 0.95
    direct = A.CarliniWagner(steps=1, binary_search_steps=1)(rejecting, x, y)
    assert direct.success.mean() < 0.2


def test_base_start_is_the_base_models_adversarial_example(rejecting, samples):
    x, y = samples
    # What the base has wrong an attack leaves alone, a start does not.
    right = td.view.decide(td.base_model(rejecting), x).label == y
    x, y = x[right], y[right]
    start = A.Transferred().points(A.PGD(0.2, steps=10), _batch(rejecting, x, y))
    np.testing.assert_allclose(start, A.PGD(0.2, steps=10)(td.base_model(rejecting), x, y).x_adv, atol=1e-6)
    # On the base an attack goes on to the end, whenever it would stop on the defended model.
    hasty = A.PGD(0.2, steps=10, early_stop=True, tolerance=1.0)
    given = A.Transferred(td.base_model(rejecting)).points(hasty, _batch(rejecting, x, y))
    np.testing.assert_allclose(start, given, atol=1e-6)


def test_what_was_found_on_the_base_is_not_searched_for_again(rejecting, classifier, samples, monkeypatch):
    import keras

    from tfdefense._cache import Recent
    from tfdefense.attacks import starts

    recent = Recent(2**28)
    monkeypatch.setattr(starts, "_FOUND", recent)
    (x, y), searched = samples, []
    original = A.PGD.perturb
    monkeypatch.setattr(A.PGD, "perturb", lambda self, batch, start: searched.append(len(batch.x)) or original(self, batch, start))
    source = keras.models.clone_model(classifier)
    source.set_weights(classifier.get_weights())
    fresh = original(A.PGD(0.2, steps=5, starts=("sample",)), _batch(source, x, y), x).x
    half = A.Transferred(source).points(A.PGD(0.2, steps=5), _batch(rejecting, x, y).rows(np.arange(0, 60, 2)))
    both = A.Transferred(source).points(A.PGD(0.2, steps=5, seed=3, objective=A.LogSumExp()), _batch(rejecting, x, y))
    assert searched == [30, 30], "neither the objective on the defense nor the seed leads elsewhere on the base"
    np.testing.assert_allclose(both, fresh, atol=1e-6)
    np.testing.assert_array_equal(both[::2], half)
    A.Transferred(source).points(A.PGD(0.21, steps=5), _batch(rejecting, x, y))
    assert searched == [30, 30, 60]
    source.layers[-1].set_weights([-weight for weight in source.layers[-1].get_weights()])
    other = A.Transferred(source).points(A.PGD(0.2, steps=5), _batch(rejecting, x, y))
    assert searched[-1] == 60 and np.abs(other - both).max() > 0.1, "a network of other weights is another"
    recent.room = 100 * x[0].nbytes
    A.Transferred(source).points(A.PGD(0.2, steps=5), _batch(rejecting, x, y))
    assert len(recent.arrays) == 100 and searched[-2:] == [60, 60]
    searched.clear()
    recent.arrays.clear()
    for defense in (td.ThresholdDefense("confidence"), td.ThresholdDefense("confidence"), td.AdversaryDetector("conv", width=2)):
        defended = defense.attach(source)
        td.calibrate(defended, x, max_rejected=0.05)
        A.Transferred().points(A.PGD(0.2, steps=5), _batch(defended, x, y))
    assert searched == [60], "the base of every defense is the same network"
    A.Transferred(lambda x: source(x)).points(A.PGD(0.2, steps=5), _batch(rejecting, x, y))
    assert searched == [60, 60], "of a function nothing is remembered"


def test_forms_of_orthogonal_pgd_share_their_start(rejecting, classifier, samples, monkeypatch):
    (x, y), searched, attack = samples, [], A.OrthogonalPGD
    original = attack.perturb
    monkeypatch.setattr(attack, "perturb", lambda self, batch, start: searched.append(self) or original(self, batch, start))
    forms = [attack(0.17, steps=5, form=form) for form in ("selective", "orthogonal")]
    plain = [original(form, _batch(classifier, x, y), x).x for form in forms]
    np.testing.assert_array_equal(*plain)
    for form in forms:
        np.testing.assert_allclose(A.Transferred(classifier).points(form, _batch(rejecting, x, y)), plain[0], atol=1e-6)
    assert len(searched) == 1
    # On a model that rejects each goes its own way.
    own = [A.Transferred(rejecting).points(form, _batch(rejecting, x, y)) for form in forms]
    assert len(searched) == 3 and np.abs(own[0] - own[1]).max() > 0.01


def test_log_sum_exp_leads_out_of_rejection_to_another_class_only():
    import tensorflow as tf

    # Class 0 is true and leads; the dustbin is above it.
    scores, dustbin = tf.constant([[8.0, 6.0, 3.0]]), tf.constant([15.0])
    with tf.GradientTape() as tape:
        tape.watch([scores, dustbin])
        value = A.LogSumExp().value(scores, dustbin - tf.reduce_max(scores, -1), tf.constant([0]), None, None)
    slope, of_dustbin = tape.gradient(value, [scores, dustbin])
    expected = -np.exp([6.0, 3.0]) / np.exp([6.0, 3.0]).sum()
    np.testing.assert_allclose(slope[0, 1:], expected, rtol=1e-3)
    assert 0 <= slope[0, 0] < 0.01 and of_dustbin[0] > 0.99


def _batch(model, x, y):
    view, x, y = A.arguments.check(model, x, y, None)
    return A.base.Batch(view, x, y, None, False, (1.0, 1.0), (x, y), np.arange(len(x)))


def test_strongest_keeps_the_best_of_each_sample(defended, samples):
    x, y = samples
    attacks = [A.DeepFool(), A.CarliniWagner(steps=40, binary_search_steps=3)]
    one, other = (attack(defended, x, y) for attack in attacks)
    best = A.WorstCase(attacks)(defended, x, y)
    np.testing.assert_array_equal(best.success, one.success | other.success)
    distances = np.where(np.stack([one.success, other.success]), np.stack([one.distance, other.distance]), np.inf).min(0)
    np.testing.assert_allclose(best.distance[best.success], distances[best.success])
    np.testing.assert_array_equal(best.steps, one.steps + other.steps)
    sparing = A.WorstCase(attacks, until_success=True)(defended, x, y)
    np.testing.assert_array_equal(sparing.success, best.success)
    assert sparing.steps.sum() < best.steps.sum()


def test_orthogonal_steps_do_not_touch_the_other_term():
    import tensorflow as tf

    from tfdefense.attacks.searches.orthogonal import _without

    rng = np.random.default_rng(0)
    chosen, kept = (tf.constant(rng.normal(size=(5, 4, 4, 1)).astype("float32")) for _ in range(2))
    rest = _without(chosen, kept).numpy().reshape(5, -1)
    np.testing.assert_allclose((rest * kept.numpy().reshape(5, -1)).sum(-1), 0, atol=1e-5)
    assert ((rest * chosen.numpy().reshape(5, -1)).sum(-1) > 0).all()
    np.testing.assert_allclose(_without(chosen, 3 * chosen).numpy().reshape(5, -1).std(), rest.std(), rtol=0.5)


def test_attacks_run_on_a_loaded_saved_model(defended, samples, tmp_path):
    import tensorflow as tf

    x, y = samples[0][:20], samples[1][:20]
    defended.export(tmp_path / "serving", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "serving"))
    one = {"steps": 5, "starts": ("sample", "interpolated")}
    for attack in (A.PGD(0.1, **one), A.DeepFool(), A.OrthogonalPGD(0.1, **one)):
        here, there = attack(defended, x, y), attack(loaded, x, y)
        np.testing.assert_array_equal(here.label, there.label)
        np.testing.assert_allclose(here.x_adv, there.x_adv, atol=1e-4)
    # Its undefended inside can't be reached: that start is left out of the default.
    assert A.PGD(0.1, steps=2)(loaded, x, y).x_adv.shape == x.shape


def test_the_default_attack_is_not_stuck_on_the_plateau_of_rejection(defended, samples):
    x, y = samples
    stuck = A.PGD(0.15, steps=40, starts=("sample",))(defended, x, y).success.mean()
    default = A.PGD(0.15, steps=40)(defended, x, y).success.mean()
    blind = A.PGD(0.15, steps=40, objective=A.Margin(), starts=("sample",))(defended, x, y).success.mean()
    # An attack that knows of the defense must not do worse than one that ignores it.
    assert default >= blind > 0.3 and default > stuck
    assert A.OrthogonalPGD(0.15, steps=40)(defended, x, y).success.mean() >= blind


ONLY = [
    A.PGD(0.15, steps=5),
    A.CarliniWagner(steps=20, binary_search_steps=2),
    A.MinimumNorm(steps=10),
    A.WorstCase([A.FGSM(0.15), A.PGD(0.15, steps=5)], until_success=True),
    A.Transfer(A.PGD(0.3, steps=5, starts=("random",))),
]


@pytest.mark.parametrize("attack", ONLY, ids=lambda attack: type(attack).__name__)
def test_samples_attacked_alone_fare_as_among_all(attack, rejecting, samples, tmp_path):
    x, y = samples
    chosen = np.arange(len(x)) % 3 == 1
    every, some = attack(rejecting, x, y), attack(rejecting, x, y, only=chosen, batch_size=16, cache=tmp_path)
    assert every.success[chosen].any() and not np.array_equal(every.x_adv[chosen], x[chosen])
    # Fewer samples at once end a few float32 roundings apart.
    np.testing.assert_allclose(some.x_adv[chosen], every.x_adv[chosen], atol=2e-3)
    np.testing.assert_array_equal(some.success[chosen], every.success[chosen])
    np.testing.assert_array_equal(some.x_adv[~chosen], x[~chosen])
    assert not some.success[~chosen].any() and not some.steps[~chosen].any() and not some.distance[~chosen].any()
    np.testing.assert_array_equal(some.label[~chosen], td.evaluate(rejecting, x, y).label[~chosen])


def test_nobody_to_attack(rejecting, samples):
    x, y = samples
    result = A.PGD(0.15)(rejecting, x, y, only=np.zeros(len(x), bool))
    np.testing.assert_array_equal(result.x_adv, x)
    assert not result.success.any()


@pytest.mark.parametrize("only", [[1, 0, 1], np.ones(2, bool)])
def test_only_is_one_boolean_a_sample(only, rejecting, samples):
    x, y = samples[0][:3], samples[1][:3]
    for attack in ONLY[:3]:
        with pytest.raises(ValueError, match=r"`only` must hold one boolean a sample, shape \(3,\)"):
            attack(rejecting, x, y, only=only)
