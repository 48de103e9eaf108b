import keras
import numpy as np
import pytest

import tfdefense as td
from tfdefense.layers import DetectorBranch


def widths(branch):
    return [convolution.filters for convolution in branch.convolutions]


def built(shape, **options):
    branch = DetectorBranch(**options)
    branch.build((None, *shape))
    return branch


@pytest.mark.parametrize(("side", "pools"), [(32, 2), (28, 2), (16, 1), (14, 1), (8, 0), (7, 0)])
def test_topology_of_figure_1(side, pools):
    branch = built((side, side, 16))
    assert widths(branch) == [96, 192, 192, 2]
    assert [convolution.kernel_size for convolution in branch.convolutions] == [(3, 3)] * 3 + [(1, 1)]
    assert branch.pools == [True, True, False][:pools] + [False] * (3 - pools)
    kernels = 9 * (16 * 96 + 96 * 192 + 192 * 192)
    assert branch.count_params() == kernels + 4 * (96 + 2 * 192) + 2 * 192 + 2


def test_weights_of_the_figure_and_of_earlier_versions_are_counted():
    figure, earlier = built((32, 32, 16)), built((32, 32, 16), depth=4)
    assert (figure.count_params(), earlier.count_params()) == (513_794, 846_338)
    assert widths(earlier) == [96, 192, 192, 192, 2] and earlier.pools == [True, True, False, False]
    assert built((6, 6, 3), depth=1, width=4).count_params() == 9 * 3 * 4 + 4 * 4 + 4 * 2 + 2


@pytest.mark.parametrize(("form", "depth"), [("cifar", 4), ("imagenet", 5)])
def test_a_branch_that_was_saved_without_its_depth_has_that_of_its_version(form, depth):
    config = DetectorBranch(form=form, width=2).get_config()
    assert DetectorBranch.from_config(config).depth == {"cifar": 3, "imagenet": 5}[form], "what is saved now"
    del config["depth"]
    assert DetectorBranch.from_config(config).depth == depth


def test_zoo_models_of_earlier_versions_keep_their_depth():
    """What they answer is held by their golden outputs."""
    for name in ("mnist_cnn.detector", "notmnist_cnn.detector"):
        branch = next(layer for layer in td.zoo.load(name).layers if isinstance(layer, DetectorBranch))
        assert widths(branch) == [16, 32, 32, 32, 2]


def test_imagenet_form_has_five_convolutions_and_one_pooling():
    branch = built((14, 14, 512), form="imagenet")
    assert widths(branch) == [196] * 5 + [2] and branch.pools == [True] + [False] * 4


def test_width_narrows_all():
    assert widths(built((8, 8, 1), width=8)) == [8, 16, 16, 2]


@pytest.mark.parametrize(("form", "side", "pooled"), [("cifar", 6, 0), ("cifar", 12, 1), ("cifar", 24, 2), ("imagenet", 24, 1)])
def test_log_odds_are_the_difference_of_the_two_maps_over_all_places(form, side, pooled):
    branch = built((side, side, 3), form=form, width=4, seed=1)
    maps = np.random.default_rng(0).random((5, side, side, 3), dtype="float32")
    x = maps
    for number, (convolution, norm) in enumerate(zip(branch.convolutions, branch.norms, strict=False)):
        x = keras.ops.convert_to_numpy(keras.ops.relu(norm(convolution(x), training=False)))
        if number < pooled:
            x = x.reshape(5, x.shape[1] // 2, 2, x.shape[2] // 2, 2, -1).max((2, 4))
    two = keras.ops.convert_to_numpy(branch.convolutions[-1](x)).mean((1, 2))
    probability = np.exp(two[:, 1]) / np.exp(two).sum(1)
    odds = keras.ops.convert_to_numpy(branch(maps))
    np.testing.assert_allclose(1 / (1 + np.exp(-odds)), probability, rtol=1e-5)


def test_normalisation_follows_the_batch_in_training_alone():
    branch = built((6, 6, 3), width=4, seed=1)
    maps = np.random.default_rng(0).random((5, 6, 6, 3), dtype="float32")
    before = [weight.copy() for weight in branch.get_weights()]
    branch(maps)
    assert all(np.array_equal(a, b) for a, b in zip(before, branch.get_weights(), strict=True))
    branch(maps, training=True)
    moved = [not np.array_equal(a, b) for a, b in zip(before, branch.get_weights(), strict=True)]
    assert sum(moved) == 6, "mean and variance of three normalisations"


@pytest.mark.parametrize(
    ("options", "shape", "words"),
    [
        ({"form": "mnist"}, (8, 8, 1), "`form` must be one of 'cifar', 'imagenet'. Received: 'mnist'"),
        ({"width": 0}, (8, 8, 1), "`width` must be a whole number of at least 1"),
        ({"width": 2.5}, (8, 8, 1), "`width` must be a whole number"),
        ({"depth": 0}, (8, 8, 1), "`depth` must be a whole number of at least 1"),
        ({}, (10,), r"feature maps of shape \(batch, height, width, channels\).*Received shape \(None, 10\)"),
        ({}, (None, None, 3), "all but the batch known"),
    ],
)
def test_bad_settings(options, shape, words):
    with pytest.raises(ValueError, match=words):
        built(shape, **options)
