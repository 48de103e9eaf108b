import numpy as np
import pytest

from tfdefense.metrics import benign_perturbation

GREY = np.full((50, 6, 6, 1), 0.5, "float32")
KINDS = ["sign", "gaussian", "direction", "dim", "shift"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_shape_type_bounds_and_seed(kind):
    x = np.random.default_rng(0).random((20, 5, 7, 3), "float32")
    size = 1 if kind in ("shift", "direction") else 0.4
    first = benign_perturbation(x, size, kind, seed=3)
    assert first.shape == x.shape and first.dtype == x.dtype
    assert first.min() >= 0 and first.max() <= 1 and not np.array_equal(first, x)
    np.testing.assert_array_equal(first, benign_perturbation(x, size, kind, seed=3))
    if kind != "dim":
        assert not np.array_equal(first, benign_perturbation(x, size, kind, seed=4))


@pytest.mark.parametrize("kind", KINDS)
def test_size_zero_changes_nothing(kind):
    x = np.random.default_rng(0).random((3, 4, 4), "float32")
    np.testing.assert_array_equal(benign_perturbation(x, 0, kind), x)


def test_sign_noise_has_the_linf_size_everywhere_and_both_signs():
    change = benign_perturbation(GREY, 0.1, "sign") - GREY
    np.testing.assert_allclose(np.abs(change), 0.1, atol=1e-6)
    assert abs((change > 0).mean() - 0.5) < 0.05


def test_gaussian_noise_has_its_deviation():
    assert (benign_perturbation(GREY, 0.1, "gaussian") - GREY).std() == pytest.approx(0.1, rel=0.05)


def test_random_direction_has_the_l2_size():
    change = (benign_perturbation(GREY, 0.4, "direction") - GREY).reshape(50, -1)
    np.testing.assert_allclose(np.linalg.norm(change, axis=1), 0.4, rtol=1e-4)
    assert abs(np.corrcoef(change[0], change[1])[0, 1]) < 0.6


@pytest.mark.parametrize("bounds, expected", [((0, 1), 0.35), ((-0.5, 0.5), 0.2), ((0, 255), 0.35)])
def test_dimming_goes_towards_the_lowest_value(bounds, expected):
    np.testing.assert_allclose(benign_perturbation(GREY, 0.3, "dim", bounds=bounds), expected, atol=1e-6)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_shift_moves_each_image_by_whole_pixels(channels):
    x = np.zeros((200, 9, 8, *channels), "float32")
    x[:, 4, 4] = 1
    moved = benign_perturbation(x, 2, "shift")
    flat = moved.reshape(200, 9, 8, -1)[..., 0]
    assert (flat.sum(axis=(1, 2)) == 1).all()
    steps = {(int(i) - 4, int(j) - 4) for i, j in (np.unravel_index(image.argmax(), (9, 8)) for image in flat)}
    assert steps == {(i, j) for i in (-2, 0, 2) for j in (-2, 0, 2)} - {(0, 0)}


def test_shift_repeats_the_edge():
    x = np.tile(np.arange(5.0)[:, None] / 4, (30, 1, 5)).reshape(30, 5, 5)
    columns = {tuple(image[:, 0]) for image in benign_perturbation(x, 1, "shift")}
    assert columns == {(0, 0, 0.25, 0.5, 0.75), (0, 0.25, 0.5, 0.75, 1), (0.25, 0.5, 0.75, 1, 1)}


def test_integers_become_floats():
    assert benign_perturbation(np.full((2, 4), 7, "uint8"), 3, "sign", bounds=(0, 255)).dtype == np.float32


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kind": "rotate"}, "one of sign, gaussian, direction, dim, shift"),
        ({"size": -0.1}, "0 or more"),
        ({"size": np.nan}, "0 or more"),
        ({"x": 255 * GREY}, "Rescale"),
        ({"x": np.full_like(GREY, np.nan)}, "Rescale"),
        ({"x": GREY[:0]}, "at least one sample"),
        ({"kind": "dim", "size": 1.5}, "lie in"),
        ({"kind": "shift", "size": 0.5}, "whole number"),
        ({"kind": "shift", "size": 6}, "less than their side"),
        ({"kind": "shift", "size": 1, "x": GREY.reshape(50, 36)}, "needs images"),
        ({"bounds": (0, 0)}, "low < high"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {"x": GREY, "size": 0.1, "kind": "sign"} | change
    with pytest.raises(ValueError, match=message):
        benign_perturbation(**arguments)
