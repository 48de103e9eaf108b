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


@pytest.mark.parametrize("form", ["cifar", "imagenet"])
def test_cost_counts_the_multiplications_of_each_convolution(form):
    from tfdefense._cuts.costs import multiplications
    from tfdefense.layers import detector_branch

    inputs = x = keras.Input((26, 24, 5))
    for maps, pool in zip(*DetectorBranch.plan((None, 26, 24, 5), form, 6, None), strict=True):
        x = keras.layers.Conv2D(maps, 3, padding="same")(x)
        x = keras.layers.MaxPooling2D(2)(x) if pool else x
    after = sum(int(np.prod(layer.output.shape[1:])) for layer in keras.Model(inputs, x).layers if "conv" in layer.name)
    x = keras.layers.Conv2D(2, 1)(x)
    assert DetectorBranch.cost((None, 26, 24, 5), form, 6) == multiplications([x]) + detector_branch.AFTER * after


def test_multiplications_of_a_network_within_a_network_count_too():
    from tfdefense._cuts.costs import multiplications

    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization()])
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.DepthwiseConv2D(3)(inner(inputs))
    x = keras.layers.Dense(7)(keras.layers.Flatten()(x))
    assert multiplications([x]) == 64 * 27 * 4 + 36 * 9 * 4 + 36 * 4 * 7


def test_default_width_follows_from_the_layer_and_what_the_classifier_costs(classifier):
    from tfdefense._cuts.costs import multiplications
    from tfdefense.defenses.adversary_detector import SHARE

    def branch(model, layer, **options):
        return next(one for one in td.AdversaryDetector(layer, **options).attach(model).layers if isinstance(one, DetectorBranch))

    inputs = x = keras.Input((16, 16, 3))
    for number in range(3):
        x = keras.layers.Conv2D(64, 3, padding="same", name=f"conv_{number}")(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool_{number}")(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    most, found = SHARE * multiplications(model.outputs), {}
    for layer in ("conv_1", "pool_1", "pool_2"):
        shape = model.get_layer(layer).output.shape
        found[layer] = width = branch(model, layer).width
        assert 4 < width <= 96 and DetectorBranch.cost(shape, "cifar", width) <= most
        assert width == 96 or DetectorBranch.cost(shape, "cifar", width + 4) > most
    assert found["conv_1"] < found["pool_1"] < found["pool_2"]
    assert branch(classifier, "conv").width == 4, "a small classifier"
    assert branch(model, "pool_1", width=96).width == 96
    assert DetectorBranch().width is None, "the layer's own default, which saved models have, stays the paper's"
