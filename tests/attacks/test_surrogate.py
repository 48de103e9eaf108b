"""Differentiable surrogates of hard defenses: what they give, and what attacks on them find."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.attacks.surrogate import anneal, has_steps, has_surrogate
from tfdefense.layers import Differentiable, QuantizedReLU

A = td.attacks


@pytest.fixture(scope="module")
def safetynet(classifier, digits, held_out):
    x, y = digits.x[:400], digits.y[:400]
    defended = td.SafetyNet(["conv_1"]).attach(classifier)
    x_adv = A.BIM(0.25)(classifier, x, y).x_adv
    return td.adapt(defended, x, y, adversarial=x_adv, calibration=held_out.x[:200], max_rejected=0.05)


@pytest.fixture(scope="module")
def samples(held_out):
    return held_out.x[200:240], held_out.y[200:240]


def quietly(attack, *arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return attack(*arguments)


def gradient(model, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        suspicion = model(x, training=False)["suspicion"]
    return tape.gradient(suspicion, x)


def test_surrogate_has_the_outputs_and_the_weights_of_the_model(safetynet, samples):
    surrogate = td.differentiable(safetynet)
    out, own = surrogate(samples[0]), safetynet(samples[0])
    assert set(out) == {"scores", "suspicion", "label"}
    np.testing.assert_allclose(out["scores"], own["scores"], atol=1e-5)
    assert np.abs(out["suspicion"] - own["suspicion"]).max() > 1e-3
    added = {weight.name for weight in surrogate.weights if not any(weight is mine for mine in safetynet.weights)}
    assert added == {"slope", "widen"}
    assert td.contract.bounds_of(surrogate) == td.contract.bounds_of(safetynet)
    assert len(safetynet.trainable_weights) == len(surrogate.trainable_weights) == 8


def test_surrogate_comes_nearer_as_it_is_annealed(safetynet, samples):
    surrogate = td.differentiable(safetynet)
    errors = []
    for stage in ((1e5, 3.0), (5.0, 1.0), (30.0, 1.0), (1e5, 1.0)):
        anneal(surrogate, *stage)
        errors.append(np.abs(surrogate(samples[0])["suspicion"] - safetynet(samples[0])["suspicion"]).mean())
    width, *slopes = errors
    assert slopes == sorted(slopes, reverse=True) and slopes[-1] < 1e-3 < min(width, slopes[0])


def test_hard_model_has_no_gradient_and_its_surrogates_have(safetynet, samples):
    assert gradient(safetynet, samples[0]) is None
    soft = gradient(td.differentiable(safetynet, 5.0, 2.0), samples[0])
    assert (np.abs(soft).max(axis=(1, 2, 3)) > 0).all()
    straight = td.differentiable(safetynet, 5.0, 2.0, exact_forward=True)
    assert (np.abs(gradient(straight, samples[0])).max(axis=(1, 2, 3)) > 0).all()
    np.testing.assert_allclose(straight(samples[0])["suspicion"], safetynet(samples[0])["suspicion"], atol=1e-4)


def test_attack_on_the_hard_model_says_what_is_wrong(safetynet, samples):
    with pytest.warns(UserWarning, match="gradient was all zeros"):
        A.PGD(0.2, steps=10, starts="sample")(safetynet, *samples)
    with pytest.raises(ValueError, match=r"\(QuantizedReLU\) is the first that stops it.*`td.attacks.BPDA\(attack\)`"):
        A.DynamicAdversary(0.2)(safetynet, *samples)


SEARCHES = {
    "pgd": A.PGD(0.2, steps=20, starts="sample"),
    "apgd": A.APGD(0.2, steps=20, starts="sample"),
    "pgd-logsumexp": A.PGD(0.2, steps=20, starts="sample", objective=A.LogSumExp()),
    "orthogonal": A.OrthogonalPGD(0.2, steps=20, starts="sample"),
    "carlini": A.CarliniWagner(steps=40, binary_search_steps=3),
}


@pytest.mark.parametrize(("name", "exact_forward"), [*((name, False) for name in SEARCHES), ("pgd", True), ("carlini", True)])
def test_search_through_the_surrogate_finds_what_the_direct_one_does_not(safetynet, samples, name, exact_forward):
    x, y = samples
    attack = A.BPDA(SEARCHES[name], exact_forward=exact_forward)
    result = quietly(attack, safetynet, x, y)
    # The real model judges.
    label = td.view.decide(safetynet, result.x_adv).label
    np.testing.assert_array_equal(result.label, label)
    np.testing.assert_array_equal(result.success, (label != y) & (label != -1))
    if hasattr(attack, "epsilon"):
        assert np.abs(result.x_adv - x).max() <= 0.2 + 1e-6
    direct = None if name == "orthogonal" else quietly(SEARCHES[name], safetynet, x, y)
    assert result.success.mean() > 0.15 + (0.4 if direct is None else direct.success.mean())


def test_default_starts_and_targets_work_through_it(safetynet, samples):
    x, y = samples
    attack = A.BPDA(A.PGD(0.25, steps=10), exact_forward=False)
    result = quietly(attack, safetynet, x, y)
    one = quietly(A.BPDA(A.PGD(0.25, steps=10, starts="sample"), exact_forward=False), safetynet, x, y)
    assert (result.success | ~one.success).all() and result.success.mean() > 0.7
    target = (y + 1) % 10
    targeted = quietly(attack, safetynet, x, y, target)
    np.testing.assert_array_equal(targeted.success, targeted.label == target)
    assert targeted.success.any()
    again = quietly(attack, safetynet, x, y)
    np.testing.assert_array_equal(again.x_adv, result.x_adv)


def test_every_stage_adds_to_what_was_found(safetynet, samples):
    attack = A.PGD(0.2, steps=10, starts="sample")
    one, both = (
        A.BPDA(attack, stages, exact_forward=False)(safetynet, *samples) for stages in ([(2.0, 3.0)], [(2.0, 3.0), (20.0, 1.0)])
    )
    assert (both.success | ~one.success).all() and both.success.sum() > one.success.sum()
    assert (both.steps[~one.success] > one.steps[~one.success]).all()


def test_svms_adapted_anew_are_attacked_as_they_are_now(classifier, digits, samples):
    x, y = digits.x[:200], digits.y[:200]
    x_adv = A.FGSM(0.25)(classifier, x, y).x_adv
    defended = td.SafetyNet(["conv_1"], levels=2, threshold=0.0).attach(classifier)
    attack = A.BPDA(A.PGD(0.2, steps=5, starts="sample"), exact_forward=False)
    for some in (60, 200):
        td.adapt(defended, x[:some], y[:some], adversarial=x_adv[:some], max_rejected=None)
        result = quietly(attack, defended, *samples)
        np.testing.assert_array_equal(result.label, td.view.decide(defended, result.x_adv).label)
        smooth, hard = td.differentiable(defended, 1e5)(samples[0])["suspicion"], defended(samples[0])["suspicion"]
        # A feature that lies on an edge of its level moves its sample a little.
        assert np.isclose(smooth, hard, atol=0.01).mean() > 0.9 and np.allclose(smooth, hard, atol=0.1)


@pytest.fixture
def step():
    """Two features whose sum has a step at 0.5, behind which the second class leads by 1.8 and before which the first by 0.2."""
    inputs = keras.Input((2,))
    total = keras.layers.Lambda(lambda x: keras.ops.sum(x, axis=-1, keepdims=True))(inputs)
    code = QuantizedReLU(thresholds=[0.5])(total)
    scores = keras.layers.Lambda(lambda c: keras.ops.concatenate([0.1 - c, c - 0.1], axis=-1))(code)
    return keras.Model(inputs, scores)


def test_path_through_a_surrogate_tells_of_the_real_scores(step):
    search = A.PGD(0.4, steps=10, objective=A.Margin())
    path = A.BPDA(search).path(step, np.zeros((3, 2), "float32"), np.zeros(3, "int32"))
    np.testing.assert_allclose(path[0], 0.2, atol=1e-5)
    np.testing.assert_allclose(path[-1], -1.8, atol=1e-5)


def test_carlini_wagner_goes_on_where_the_surrogate_is_broken_and_the_model_is_not(step):
    """The surrogate takes even the sample itself for the other class."""
    x, y = np.zeros((3, 2), "float32"), np.zeros(3, "int32")
    attack = A.BPDA(A.CarliniWagner(steps=100, binary_search_steps=5), [(2.0, 1.0)], exact_forward=False)
    assert td.differentiable(step, 2.0)(x).numpy().argmax(1).all() and not step(x).numpy().argmax(1).any()
    result = quietly(attack, step, x, y)
    assert result.success.all()
    np.testing.assert_allclose(result.distance, 0.5 / 2**0.5, rtol=0.05)


def test_annealed_carlini_wagner_begins_each_stage_where_the_one_before_ended(step):
    """The first stage breaks its surrogate and not the model; the last, too short to come far, succeeds from where that ended."""
    x, y = np.zeros((3, 2), "float32"), np.zeros(3, "int32")
    search = A.CarliniWagner(steps=20, binary_search_steps=1, early_stop=False)
    short, whole = (quietly(A.BPDA(search, stages, exact_forward=False), step, x, y) for stages in ([(2.0, 1.0)], 4 * [(2.0, 1.0)]))
    assert not short.success.any() and whole.success.all()


def test_who_attacks_asks_a_layer_whether_it_has_steps(step, safetynet, classifier, held_out):
    suite = A.suite("standard-1")
    samples = held_out.x[:20], held_out.y[:20]
    assert has_steps(safetynet) and has_steps(step)
    svms = td.NeuralRejection("features").attach(classifier)
    assert has_surrogate(svms) and not has_steps(svms) and not has_steps(classifier)

    class Own(keras.layers.Layer):
        """A user's: nothing but `smooth` tells of it."""

        def call(self, x):
            return keras.ops.round(x)

        def smooth(self, x, slope, widen):
            return x

    inputs = keras.Input(held_out.x.shape[1:])
    scores = classifier(inputs)
    defended = td.defend(inputs, scores, keras.layers.Lambda(lambda s: 0.5 - keras.ops.max(s, -1))(Own()(scores)))
    found = suite.worst_case(suite.situation(defended, samples, "linf", 0.1), ["Square, black box"]).named
    assert len(found) > 4 and all(isinstance(attack, A.BPDA) for attack in found.values())
    assert [attack.exact_forward for attack in found.values()].count(False) == 1
    beside = suite.worst_case(suite.situation(svms, samples, "linf", 0.1)).named
    assert sum(isinstance(attack, A.BPDA) for attack in beside.values()) == 1


def test_any_layer_that_offers_it_is_smoothed_inside_submodels_too(classifier, digits, held_out):
    """Neural Rejection's SVMs offer wider kernels; a step layer inside the user's own submodel is found."""
    x, y = digits.x[:300], digits.y[:300]
    defended = td.NeuralRejection("features").attach(classifier)
    td.adapt(defended, x, y, calibration=held_out.x, max_rejected=0.05)
    surrogate = td.differentiable(defended, widen=2.0)
    assert np.abs(surrogate(x[:9])["scores"] - defended(x[:9])["scores"]).max() > 0.01
    np.testing.assert_allclose(td.differentiable(defended)(x[:9])["scores"], defended(x[:9])["scores"], atol=1e-5)

    inner_input = keras.Input((4,))
    step = QuantizedReLU(thresholds=[0.5])
    inner = keras.Model(inner_input, step(inner_input) + step(2 * inner_input), name="inner")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(inputs)))
    soft = td.differentiable(model, slope=1e6)
    points = np.random.default_rng(0).random((9, 4), dtype="float32")
    np.testing.assert_allclose(soft(points), model(points), atol=1e-4)
    found = [layer for layer in soft.get_layer("inner").layers if isinstance(layer, Differentiable)]
    assert len(found) == 1 and found[0].layer is step
    anneal(soft, 1.0, 1.0)
    assert np.abs(soft(points) - model(points)).max() > 0.01


def test_training_against_the_surrogate_steps_inside_it(safetynet, samples):
    view = td.view.View.of(safetynet)
    perturb = A.BPDA(A.PGD(0.2, steps=5), exact_forward=False).online(view)
    found = tf.function(perturb)(tf.constant(samples[0]), tf.constant(samples[1], tf.int32), tf.range(len(samples[0])))
    moved = np.abs(found - samples[0])
    assert 0.1 < moved.max() <= 0.2 + 1e-6


def test_search_without_gradients_shows_that_they_are_masked(safetynet, samples):
    direct = quietly(A.PGD(0.2, steps=20, starts="sample"), safetynet, *samples)
    assert A.Square(0.2, queries=500)(safetynet, *samples).success.mean() > direct.success.mean()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda d, m, x, y: td.differentiable(m), r"no layer that offers `smooth\(inputs, slope, widen\)`"),
        (lambda d, m, x, y: td.differentiable(d, slope=0), "`slope` must be a number above 0"),
        (lambda d, m, x, y: Differentiable(keras.layers.Dense(2)), "Received a Dense"),
        (lambda d, m, x, y: A.BPDA(A.Transfer(A.PGD(0.2))), "an attack that searches"),
        (lambda d, m, x, y: A.BPDA(A.PGD(0.2), schedule=[]), "pairs of slope and width"),
        (lambda d, m, x, y: A.BPDA(A.PGD(0.2), schedule=[(1.0, -1.0)]), "`width` must be a number above 0"),
        (lambda d, m, x, y: A.BPDA(A.PGD(0.2))(m, x, y), "no layer that offers `smooth"),
        (lambda d, m, x, y: A.BPDA(A.PGD(0.2))(lambda x: m(x), x, y), "can be made of a Keras model"),
    ],
)
def test_bad_input(safetynet, classifier, samples, call, words):
    with pytest.raises(ValueError, match=words):
        call(safetynet, classifier, *samples)
