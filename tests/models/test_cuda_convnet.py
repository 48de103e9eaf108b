import keras
import numpy as np
import pytest

from models.cuda_convnet import FEATURES, cuda_convnet


@pytest.mark.parametrize(("shape", "features"), [((28, 28, 1), 4 * 4 * 64), ((32, 32, 3), 4 * 4 * 64)])
def test_layers_are_those_of_the_paper(shape, features):
    model = cuda_convnet(shape)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size) for layer in convolutions] == [(32, (5, 5)), (32, (5, 5)), (64, (5, 5))]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.name for layer in dense] == ["logits"] and dense[0].activation is keras.activations.linear
    assert model.get_layer(FEATURES).output.shape == (None, features)
    channels = shape[-1]
    assert model.count_params() == (25 * channels + 1) * 32 + (25 * 32 + 1) * 32 + (25 * 32 + 1) * 64 + (features + 1) * 10


def test_classes_width_and_dropout_are_those_asked_for():
    model = cuda_convnet((8, 8, 1), classes=11, width=4)
    assert model.outputs[0].shape == (None, 11) and model.get_layer("conv_3").filters == 8
    image = np.ones((1, 8, 8, 1), "float32")
    np.testing.assert_array_equal(model(image), model(image))
    assert not np.array_equal(model(image, training=True), model(image))


@pytest.mark.parametrize("shape", [(7, 7, 1), (28, 28)])
def test_wrong_shape_is_named(shape):
    with pytest.raises(ValueError, match=r"at least 8 pixels a side. Received \("):
        cuda_convnet(shape)
