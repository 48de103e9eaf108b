"""What every layer promises, as one table; and what each computes."""

import keras
import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import entropy

import tfdefense as td

L = td.layers
SCORES = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(size=(5, 3, 3, 1)).astype("float32")
# Each detector score of class scores z, in NumPy.
FORMULAS = {
    "confidence": lambda z: np.log(1 - softmax(z, axis=-1).max(-1)),
    "energy": lambda z: -logsumexp(z, axis=-1),
    "entropy": lambda z: np.log(entropy(softmax(z, axis=-1), axis=-1)),
    "gen": lambda z: (softmax(z, axis=-1) ** 0.1 * (1 - softmax(z, axis=-1)) ** 0.1).sum(-1),
    "max-logit": lambda z: -z.max(-1),
    "non-me": lambda z: -entropy(np.sort(softmax(z, axis=-1))[:, :-1], axis=-1),
}
TABLE = {
    "threshold": (lambda: L.Threshold(0.5), (SCORES[:, 0],)),
    "join-any": (lambda: L.Join("any"), ([SCORES[:, 0], SCORES[:, 1]],)),
    "join-all": (lambda: L.Join("all"), ([SCORES[:, 0], SCORES[:, 1]],)),
    **{name: (kind, (SCORES,)) for name, kind in L.scores.SCORES.items()},
    "gen-top": (lambda: L.scores.SCORES["gen"](gamma=0.5, top=2), (SCORES,)),
    "scale": (lambda: L.scores.Scale(percentile=50), (np.abs(SCORES),)),
    **{f"ash-{form}": (lambda form=form: L.scores.ASH(50, form), (np.abs(SCORES),)) for form in "sbp"},
    "energy-temperature": (lambda: L.scores.Energy(temperature=2.0), (SCORES,)),
    "dustbin": (L.Dustbin, (SCORES,)),
    "binary": (L.BinaryScores, (SCORES[:, :1],)),
    "detector-branch": (lambda: L.DetectorBranch(width=2, seed=0), (IMAGES,)),
    "joint": (L.JointProbability, (SCORES[:, :1], SCORES)),
    "noisy-copies": (lambda: L.NoisyCopies(0.5, samples=3, seed=1), (IMAGES,)),
    "noisy-votes": (lambda: L.NoisyVotes(5), (SCORES,)),
    "rectified": (L.RectifiedConfidence, (SCORES[:, 0], SCORES)),
    "rectifier": (lambda: L.Rectifier(width=3, seed=0), (IMAGES,)),
    "quantized": (lambda: L.QuantizedReLU(thresholds=[0.0, 0.5]), (SCORES,)),
    "smoothed": (lambda: L.Differentiable(L.QuantizedReLU(thresholds=[0.0, 0.5]), slope=3.0), (SCORES,)),
    "reject": (lambda: L.Reject((0, 1)), (IMAGES, SCORES, SCORES[:, 0])),
}


def flat(outputs):
    return [keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(outputs)]


@pytest.mark.parametrize("name", TABLE)
def test_layer_comes_back_from_its_config_and_from_a_file(name, tmp_path):
    make, inputs = TABLE[name]
    layer = make()
    wanted = flat(layer(*inputs))
    copy = type(layer).from_config(layer.get_config())
    for a, b in zip(flat(copy(*inputs)), wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    symbolic = keras.tree.map_structure(lambda array: keras.Input(array.shape[1:]), inputs)
    model = keras.Model(keras.tree.flatten(symbolic), make()(*symbolic))
    shapes = [tuple(output.shape[1:]) for output in keras.tree.flatten(model.output)]
    assert shapes == [array.shape[1:] for array in wanted]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for a, b in zip(flat(loaded(keras.tree.flatten(inputs))), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", TABLE)
def test_layer_stays_in_float32_under_mixed_precision(name):
    make, inputs = TABLE[name]
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        outputs = flat(make()(*inputs))
    finally:
        keras.mixed_precision.set_global_policy(before)
    for output, wanted in zip(outputs, flat(make()(*inputs)), strict=True):
        assert output.dtype == wanted.dtype
        np.testing.assert_allclose(output, wanted, atol=1e-6)


@pytest.mark.parametrize("name", L.scores.SCORES)
def test_detector_score_is_its_formula(name):
    np.testing.assert_allclose(flat(L.scores.SCORES[name]()(SCORES))[0], FORMULAS[name](SCORES.astype("float64")), rtol=1e-5)


@pytest.mark.parametrize("name", L.scores.SCORES)
def test_detector_score_is_finite_and_has_a_gradient_where_a_softmax_is_sure(name):
    import tensorflow as tf

    sure = tf.constant([[60.0, 1.0, 2.0], [200.0, 0.0, 3.0]])
    with tf.GradientTape() as tape:
        tape.watch(sure)
        found = L.scores.SCORES[name]()(sure)
    assert np.isfinite(found).all() and np.abs(tape.gradient(found, sure)).max(-1).all()


def test_confidence_goes_on_where_a_softmax_is_stuck():
    sure = np.array([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(flat(L.Confidence()(sure))[0], [np.log(2) - 40, np.log(2) - 60], rtol=1e-6)


def test_energy_is_between_the_best_score_and_that_of_equal_ones():
    found = [flat(L.scores.Energy(temperature=T)(SCORES))[0] for T in (1e-3, 0.5, 2.0)]
    np.testing.assert_allclose(found[0], -SCORES.max(-1), rtol=1e-2)
    np.testing.assert_allclose(found[2], -2 * logsumexp(SCORES / 2, axis=-1), rtol=1e-5)
    assert (found[0] > found[1]).all() and (found[1] > found[2]).all()
    np.testing.assert_allclose(flat(L.scores.Energy(2.0)(np.full((1, 4), 3.0)))[0], -3 - 2 * np.log(4), rtol=1e-6)
    with pytest.raises(ValueError, match="`temperature` must be a number above 0. Received: 0"):
        L.scores.Energy(0)


def test_non_maximal_entropy_of_equal_shares_is_the_log_of_how_many():
    even = flat(L.NonMaximalEntropy()(np.array([[9.0, 1.0, 1.0, 1.0]])))[0]
    np.testing.assert_allclose(even, -np.log(3), rtol=1e-6)
    with pytest.raises(ValueError, match="at least 3 classes"):
        L.NonMaximalEntropy()(SCORES[:, :2])


def test_dustbin_is_the_last_score_against_the_best_class():
    scores, detector_score = flat(L.Dustbin()(SCORES))
    np.testing.assert_array_equal(scores, SCORES[:, :3])
    np.testing.assert_allclose(detector_score, SCORES[:, 3] - SCORES[:, :3].max(-1))


@pytest.mark.parametrize("rate", [0.0, 0.07, 0.1, 0.5, 0.99])
def test_threshold_keeps_the_rate_and_uses_it_up(rate):
    score = np.random.default_rng(2).permutation(99).astype("float32")
    layer = L.Threshold()
    layer.calibrate(score, rate)
    # With one that is fresh they are 100: these and the one at the threshold are as many as may be rejected of those.
    assert (flat(layer(score))[0] > 0).sum() == max(0, round(rate * 100) - 1)


def test_ties_at_the_threshold_are_kept():
    layer = L.Threshold()
    layer.calibrate(np.array([0.0, 1.0, 1.0, 1.0, 1.0]), 0.2)
    assert (flat(layer(np.array([1.0, 1.1])))[0] > 0).tolist() == [False, True]


def test_samples_without_a_statistic_use_up_the_rate():
    layer = L.Threshold()
    layer.calibrate(np.array([np.nan, np.inf, 0.0, 1.0]), 0.6)
    assert 1.0 < float(flat(layer.value)[0]) < 1.01
    with pytest.raises(ValueError, match="50.0% of these samples have a detector score that is not finite"):
        layer.calibrate(np.array([np.nan, np.inf, 0.0, 1.0]), 0.4)


def test_scores_that_are_no_numbers_are_rejected():
    scores = SCORES.copy()
    scores[2, 1] = np.nan
    suspicion = np.array([-1, np.nan, -1, 1, -1], "float32")
    out = L.Reject()(IMAGES, scores, suspicion)
    np.testing.assert_array_equal(flat(out["label"])[0] == -1, [False, True, True, True, False])
    assert flat(out["suspicion"])[0].tolist() == [-1, np.inf, np.inf, 1, -1]


def test_gradients_pass_through_to_scores_and_suspicion():
    import tensorflow as tf

    x = tf.constant(SCORES)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        out = L.Reject((-9, 9))(x, 2 * x, 3 * x[:, 0])
    np.testing.assert_allclose(tape.gradient(out["scores"], x), 2 * np.ones_like(SCORES))
    np.testing.assert_allclose(tape.gradient(out["suspicion"], x)[:, 0], 3)
