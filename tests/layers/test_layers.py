"""What every layer promises, as one table; and what each computes."""

import keras
import numpy as np
import pytest

import tfdefense as td

L = td.layers
SCORES = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
IMAGES = np.random.default_rng(1).uniform(size=(5, 3, 3, 1)).astype("float32")
TABLE = {
    "threshold": (lambda: L.Threshold(0.5), (SCORES[:, 0],)),
    "join-any": (lambda: L.Join("any"), ([SCORES[:, 0], SCORES[:, 1]],)),
    "join-all": (lambda: L.Join("all"), ([SCORES[:, 0], SCORES[:, 1]],)),
    "confidence": (L.Confidence, (SCORES,)),
    "non-me": (L.NonMaximalEntropy, (SCORES,)),
    "dustbin": (L.Dustbin, (SCORES,)),
    "binary": (L.BinaryScores, (SCORES[:, :1],)),
    "best-score": (L.BestScore, (SCORES,)),
    "detector-branch": (lambda: L.DetectorBranch(width=2, seed=0), (IMAGES,)),
    "quantized": (lambda: L.QuantizedReLU(thresholds=[0.0, 0.5]), (SCORES,)),
    "smoothed": (lambda: L.Smoothed(L.QuantizedReLU(thresholds=[0.0, 0.5]), slope=3.0), (SCORES,)),
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


def test_confidence_orders_as_one_minus_confidence_and_goes_on_where_that_is_stuck():
    probability = keras.ops.convert_to_numpy(keras.ops.softmax(SCORES)).max(-1)
    np.testing.assert_allclose(flat(L.Confidence()(SCORES))[0], np.log(1 - probability), rtol=1e-4)
    sure = np.array([[40.0, 0.0, 0.0], [60.0, 0.0, 0.0]], "float32")
    np.testing.assert_allclose(flat(L.Confidence()(sure))[0], [np.log(2) - 40, np.log(2) - 60], rtol=1e-6)


def test_non_maximal_entropy_is_the_papers():
    probability = keras.ops.convert_to_numpy(keras.ops.softmax(SCORES)).astype("float64")
    rest = np.sort(probability, -1)[:, :-1]
    rest /= rest.sum(-1, keepdims=True)
    np.testing.assert_allclose(flat(L.NonMaximalEntropy()(SCORES))[0], (rest * np.log(rest)).sum(-1), rtol=1e-5)
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
