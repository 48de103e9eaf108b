import keras
import numpy as np
import pytest

from models.vgg import FEATURES, vgg16


def test_layers_are_those_of_configuration_d():
    model = vgg16()
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}
    assert [layer.name for layer in model.layers if isinstance(layer, keras.layers.Dense)] == ["dense_1", "dense_2", "logits"]
    assert [model.get_layer(f"pool_{block}").output.shape[1] for block in range(1, 6)] == [16, 8, 4, 2, 1]
    # The convolutions of VGG16 without biases.
    assert sum(layer.count_params() for layer in convolutions) == 14_710_464


def test_narrow_one_costs_a_sixteenth():
    narrow, wide = (vgg16(width=width) for width in (16, 64))
    assert wide.get_layer("conv_9").count_params() == 16 * narrow.get_layer("conv_9").count_params()
    assert narrow.get_layer(FEATURES).output.shape == (None, 128)


def test_logits_have_both_signs_and_the_mean_is_taken_away():
    model = vgg16(classes=11, width=4)
    assert model(np.random.default_rng(0).random((4, 32, 32, 3), dtype="float32")).numpy().min() < 0
    shifted = keras.Model(model.inputs[0], model.get_layer("shift").output)
    np.testing.assert_allclose(shifted(np.full((1, 32, 32, 3), 0.4734)), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (28, 28, 1)}, r"at least 32 pixels a side. Received \(28, 28, 1\).*cuda_convnet"),
        ({"width": 0.5}, "`width` must be a whole number.*Received 0.5"),
    ],
)
def test_wrong_argument_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        vgg16(**options)
