import keras
import numpy as np
import pytest

from models.carlini import carlini_cnn
from models.small import digits_cnn
from models.vgg_imagenet import vgg_imagenet
from models.vgg_small import vgg_small
from models.wong import wong_cnn

BUILDERS = {
    "carlini_cnn": (carlini_cnn, (28, 28, 1), 312202),
    "digits_cnn": (digits_cnn, (8, 8, 1), 38282),
    "vgg_imagenet": (vgg_imagenet, (96, 96, 3), 626490),
    "vgg_small": (vgg_small, (32, 32, 3), 3385418),
    "wong_cnn": (wong_cnn, (28, 28, 1), 166406),
}


@pytest.fixture(params=BUILDERS)
def built(request):
    build, shape, parameters = BUILDERS[request.param]
    return build, shape, parameters, build()


def test_model_is_functional_and_ends_in_logits(built):
    _, shape, _, model = built
    assert model.inputs[0].shape == (None, *shape)
    assert model.outputs[0].shape == (None, 10)
    last = model.layers[-1]
    assert last.name == "logits" and last.activation is keras.activations.linear
    images = np.random.default_rng(0).random((3, *shape), dtype="float32")
    assert model(images).numpy().min() < 0, "logits of a fresh network have both signs; a softmax has one"


def test_model_has_the_size_of_its_paper(built):
    _, _, parameters, model = built
    assert model.count_params() == parameters


def test_layers_have_the_names_that_defenses_use(built):
    names = {layer.name for layer in built[3].layers}
    assert {"image", "conv_1", "conv_2", "dense_1", "logits"} <= names
    # One network takes strides in place of pooling.
    assert ("pool_1" in names) == any(isinstance(layer, keras.layers.MaxPooling2D) for layer in built[3].layers)
    assert "pool_1" in names or built[3].name == "wong_cnn"
    assert not any(name.split("_")[-1].isdigit() and name.startswith("conv2d") for name in names)


def test_model_builds_for_other_shapes_and_classes(built):
    build = built[0]
    assert build(input_shape=(32, 32, 3), classes=4).outputs[0].shape == (None, 4)


def test_detector_branch_has_its_place_behind_the_fourth_pooling_of_five():
    model = vgg_imagenet()
    assert model.get_layer("pool_4").output.shape == (None, 6, 6, 128) and "pool_5" in {layer.name for layer in model.layers}
    with pytest.raises(ValueError, match="at least 32 pixels a side. Received .*vgg_small"):
        vgg_imagenet((28, 28, 1))


def test_dropout_is_active_in_training_alone():
    model = carlini_cnn(dropout=0.5)
    image = np.ones((1, 28, 28, 1), "float32")
    assert np.array_equal(model(image), model(image, training=False))
    assert not np.array_equal(model(image, training=True), model(image, training=False))


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28)])
def test_carlini_cnn_names_what_it_expects(shape):
    with pytest.raises(ValueError, match="at least 16 pixels a side. Received .*digits_cnn"):
        carlini_cnn(input_shape=shape)


def test_digits_cnn_names_what_it_expects():
    with pytest.raises(ValueError, match=r"Received \(8, 8\)"):
        digits_cnn(input_shape=(8, 8))
