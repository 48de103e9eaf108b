import numpy as np
import pytest

from tfdefense import data
from tfdefense.data.textures import TEXTURES


def test_same_seed_draws_the_same_images_and_the_test_split_others():
    x, y = data.draw_textures(50, size=16, seed=5)
    again, labels = data.draw_textures(50, size=16, seed=5)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, labels)
    assert x.shape == (50, 16, 16, 3) and x.dtype == np.float32 and np.bincount(y).tolist() == [10] * 5
    for other, _ in (data.draw_textures(50, size=16, seed=6), data.draw_textures(50, "test", size=16, seed=5)):
        assert abs(x - other).mean() > 0.1


def test_images_differ_in_colour_and_from_one_another():
    x, y = data.draw_textures(1000, seed=1)
    assert 0.1 < x.std((1, 2)).mean() < 0.4, "not of one colour each"
    assert x.mean((1, 2)).std(0).min() > 0.1, "nor all of the same ones"
    assert 0 <= x.min() and x.max() <= 1 and np.isfinite(x).all()
    flat = x.reshape(len(x), -1)
    flat = flat - flat.mean(1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6
    assert np.abs(flat @ flat.T - np.eye(len(x))).max(1).mean() < 0.95


def test_each_kind_is_what_it_is_called():
    x, y = data.draw_textures(2000, channels=1, size=32, seed=2)
    by_kind = {kind: x[y == number, ..., 0] for number, kind in enumerate(TEXTURES)}
    # Of stripes a row moved along them looks the same: two numbers tell every pixel, so that the spectrum has few lines.
    power = {kind: np.abs(np.fft.fft2(images - images.mean((1, 2), keepdims=True))) ** 2 for kind, images in by_kind.items()}
    most = {kind: np.median(np.sort(one.reshape(len(one), -1))[:, -8:].sum(1) / one.sum((1, 2))) for kind, one in power.items()}
    assert most["stripes"] > most["rings"] and most["stripes"] > most["clouds"]
    flat = {kind: np.mean(np.abs(np.diff(images, axis=1)) < 1e-6) for kind, images in by_kind.items()}
    assert flat["shapes"] > flat["clouds"] + 0.1, "inside a shape there is one colour"


@pytest.mark.parametrize(("options", "words"), [
    ({"split": "all"}, "`split` must be 'train' or 'test'. Received: split='all'"),
    ({"size": 3}, "`size` must be 4 or more"),
    ({"channels": 2}, "`channels` must be 1 or 3. Received: channels=2"),
])  # fmt: skip
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        data.draw_textures(5, **options)
