import keras
import numpy as np
import pytest

from models.resnet import resnet


@pytest.mark.parametrize("depth", [8, 14, 32])
def test_depth_counts_the_layers_with_weights_on_the_main_path(depth):
    model = resnet((28, 28, 1), depth=depth)
    main = [x for x in model.layers if isinstance(x, keras.layers.Conv2D | keras.layers.Dense) and "shortcut" not in x.name]
    assert len(main) == depth


def test_resnet_32_has_the_size_of_he_et_al():
    # 0.46 million, table 6 of He et al. (2016a)
    assert resnet(depth=32).count_params() == pytest.approx(0.46e6, rel=0.03)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (8, 8, 1)])
def test_model_gives_logits_and_names_its_features(shape):
    model = resnet(shape, classes=7, depth=8)
    assert model.outputs[0].shape == (None, 7) and model.layers[-1].name == "logits"
    assert model.get_layer("pool").output.shape == (None, 64)
    assert model.get_layer("stage_2_block_1").output.shape[1:] == (shape[0] // 2, shape[1] // 2, 32)
    assert model(np.random.default_rng(0).random((2, *shape), dtype="float32")).numpy().min() < 0


def test_pixels_are_shifted_inside():
    model = resnet((8, 8, 1), depth=8)
    shifted = keras.Model(model.inputs[0], model.get_layer("shift").output)
    np.testing.assert_array_equal(np.unique(shifted(np.array([0.0, 1.0]).repeat(64).reshape(2, 8, 8, 1))), [-0.5, 0.5])


def test_weight_penalty_is_the_squares_or_nothing():
    assert not resnet((8, 8, 1), depth=8).losses
    model = resnet((8, 8, 1), depth=8, l2=1e-2)
    kernels = [layer.kernel for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense)]
    assert float(sum(model.losses)) == pytest.approx(1e-2 * sum(float((k.numpy() ** 2).sum()) for k in kernels), rel=1e-4)


@pytest.mark.parametrize("depth", [2, 10, 20.0])
def test_wrong_depth_is_named(depth):
    with pytest.raises(ValueError, match=f"`depth` must be 6n . 2.*Received {depth}"):
        resnet(depth=depth)


def test_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"at least 4 pixels a side. Received \(28, 28\)"):
        resnet((28, 28))
