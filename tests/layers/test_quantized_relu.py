import keras
import numpy as np
import pytest
import tensorflow as tf

from tfdefense.layers import QuantizedReLU

ACTIVATIONS = np.maximum(np.random.default_rng(0).normal(size=(200, 3, 5)), 0).astype("float32")


def codes(layer, x):
    return keras.ops.convert_to_numpy(layer(np.asarray(x, "float32")))


def test_binary_thresholds_are_the_median_of_the_positive_activations():
    layer = QuantizedReLU()
    layer.adapt(ACTIVATIONS)
    own = [[np.median(column[column > 0]) for column in unit.T] for unit in ACTIVATIONS.transpose(1, 0, 2)]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.values)[0], own, rtol=1e-6)
    np.testing.assert_array_equal(codes(layer, ACTIVATIONS), ACTIVATIONS > np.array(own, "float32"))


def test_quaternary_levels_share_the_active_samples_evenly():
    layer = QuantizedReLU(levels=4)
    layer.adapt(ACTIVATIONS)
    code = codes(layer, ACTIVATIONS)
    assert set(np.unique(code)) == {0, 1, 2, 3}
    shares = [(code[ACTIVATIONS > 0] == level).mean() for level in range(4)]
    np.testing.assert_allclose(shares, 0.25, atol=0.01)


def test_unit_that_was_never_active_gets_the_mean_thresholds_of_the_others():
    x = ACTIVATIONS.copy()
    x[:, 1, 2] = 0
    layer = QuantizedReLU(levels=4)
    layer.adapt(x)
    values = keras.ops.convert_to_numpy(layer.values).reshape(3, 15)
    np.testing.assert_allclose(values[:, 7], np.delete(values, 7, 1).mean(1), rtol=1e-5)
    assert codes(layer, x)[:, 1, 2].max() == 0
    # A sigmoid agrees that it is silent.
    assert layer.smooth(x, 1000.0, 1.0)[:, 1, 2].numpy().max() < 1e-6
    layer.adapt(0 * x)
    assert np.isfinite(layer.values).all() and codes(layer, 0 * x).max() == 0


def test_thresholds_that_were_given_stay_and_may_differ_for_each_unit():
    own = np.array([[1.0, 2.0]])
    layer = QuantizedReLU(thresholds=own)
    assert codes(layer, [[1.5, 1.5]]).tolist() == [[1.0, 0.0]] and layer.adapted
    layer.adapt(np.full((9, 2), 50.0))
    assert codes(layer, [[1.5, 1.5]]).tolist() == [[1.0, 0.0]]
    copy = QuantizedReLU.from_config(layer.get_config())
    assert codes(copy, [[1.5, 1.5]]).tolist() == [[1.0, 0.0]]


def test_codes_are_nan_until_there_are_thresholds():
    layer = QuantizedReLU(levels=3)
    assert np.isnan(codes(layer, [[0.0, 1.0]])).all() and not layer.adapted


def test_adapted_thresholds_come_back_from_a_file(tmp_path):
    layer = QuantizedReLU(levels=4)
    inputs = keras.Input((3, 5))
    model = keras.Model(inputs, layer(inputs))
    layer.adapt(ACTIVATIONS)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(ACTIVATIONS), codes(layer, ACTIVATIONS))


def test_hard_code_has_no_gradient_and_the_smooth_one_has():
    layer = QuantizedReLU(thresholds=[1.0, 2.0])
    x = tf.constant([[0.5, 1.2, 1.9, 3.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        hard, soft = layer(x), layer.smooth(x, 3.0, 1.0)
    assert tape.gradient(hard, x) is None
    # The mean threshold is 1.5, so that a slope of 3 is 2 for each unit of activation.
    sigmoid = 1 / (1 + np.exp(-2 * (x.numpy()[..., None] - [1.0, 2.0])))
    np.testing.assert_allclose(soft, sigmoid.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(tape.gradient(soft, x), (2 * sigmoid * (1 - sigmoid)).sum(-1), rtol=1e-5)


def test_smooth_code_goes_to_the_hard_one_as_the_slope_grows():
    layer = QuantizedReLU(levels=4)
    layer.adapt(ACTIVATIONS)
    errors = [np.abs(layer.smooth(ACTIVATIONS, slope, 1.0) - codes(layer, ACTIVATIONS)).mean() for slope in (3, 30, 300, 3000)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.005


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"levels": 1}, "whole number of at least 2"),
        ({"levels": 2.0}, "whole number of at least 2"),
        ({"thresholds": [2.0, 1.0]}, "increasing numbers"),
        ({"thresholds": 1.0}, "increasing numbers"),
        ({"thresholds": [np.nan]}, "increasing numbers"),
        ({"levels": 4, "thresholds": [1.0]}, "Received 1 for `levels=4`"),
    ],
)
def test_bad_options_are_told(options, words):
    with pytest.raises(ValueError, match=words):
        QuantizedReLU(**options)


def test_bad_shapes_are_told():
    with pytest.raises(ValueError, match=r"Expected thresholds of shape \(1, 4\)"):
        QuantizedReLU(thresholds=[[1.0, 2.0]])(np.zeros((2, 4), "float32"))
    with pytest.raises(ValueError, match="Expected finite activations"):
        QuantizedReLU().adapt(np.full((3, 2), np.inf))
    with pytest.raises(ValueError, match="of a known size"):
        QuantizedReLU()(keras.Input((None, 3)))
    with pytest.raises(ValueError, match="say how many codes: `levels=4`"):
        QuantizedReLU(4)
