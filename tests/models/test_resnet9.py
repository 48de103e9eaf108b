import numpy as np
import pytest

from models.resnet9 import resnet9


def test_width_64_has_the_size_of_the_reference():
    # 6,573,120 there, without a bias of the last layer.
    model = resnet9(width=64)
    assert sum(np.prod(weight.shape) for weight in model.trainable_weights) == 6_573_120 + 10


def test_default_width_fits_into_the_repository():
    assert 4 * resnet9().count_params() < 0.95 * 4 * 2**20


def test_features_are_named_and_none_is_below_0():
    import keras

    model = resnet9((16, 16, 1), classes=7, width=4)
    assert model.output_shape == (None, 7) and model.layers[-1].name == "logits"
    inside = keras.Model(model.inputs[0], [model.get_layer(name).output for name in ("pool", "block_1", "block_2")])
    pool, first, second = inside(np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype("float32"))
    assert (pool.shape[1:], first.shape[1:], second.shape[1:]) == ((32,), (8, 8, 8), (2, 2, 32))
    assert float(np.min(pool)) >= 0 < float(np.max(pool))


@pytest.mark.parametrize("options, message", [({"input_shape": (4, 4, 3)}, "8 pixels a side"), ({"width": 0}, "`width` must be")])
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        resnet9(**options)
