import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from tfdefense import data
from tfdefense.data import loading

EMBEDDED = {"digits": (1400, 397), "letters": (5000, 1000), "letters8": (5000, 1000)}
EMBEDDED |= {"textures": (5000, 1000), "textures8": (5000, 1000)}


@pytest.fixture
def nothing_here(monkeypatch, tmp_path):
    """No data folder is set, the default one is empty, and the network is out of reach."""
    monkeypatch.delenv("TFDEFENSE_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "default"))

    def refuse(*_):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


def rows(x):
    return {image.tobytes() for image in x}


def test_import_is_light():
    code = "import sys, tfdefense.data; print({*sys.modules} & {*sys.argv[1:]})"
    heavy = ["tensorflow", "keras", "sklearn", "scipy", "matplotlib", "PIL"]
    ran = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_set_has_disjoint_splits_with_every_class(name):
    train, test, everything = (data.load(name, split) for split in ("train", "test", "all"))
    assert (len(train), len(test)) == EMBEDDED[name]
    assert not rows(train.x) & rows(test.x)
    assert rows(train.x) | rows(test.x) == rows(everything.x)
    for part in (train, test):
        shares, classes = np.bincount(part.y) / len(part), len(part.classes)
        assert shares.shape == (classes,) and abs(shares - 1 / classes).max() < 0.006
    assert train.x.dtype == np.float32 and train.y.dtype == np.int32 and train.bounds == (0.0, 1.0)
    assert train.x.ndim == 4 and train.x.min() == 0 and 0.95 < train.x.max() <= 1


def test_every_embedded_set_is_in_the_table():
    assert set(EMBEDDED) == {name for name in data.names() if loading._SETS[name].find is None}


def test_digits_keep_their_labels():
    from sklearn.datasets import load_digits

    digits = load_digits()
    known = {(x / 16).astype("float32").tobytes(): y for x, y in zip(digits.data, digits.target, strict=True)}
    test = data.load("digits", "test")
    assert [known[image.tobytes()] for image in test.x] == test.y.tolist()


def test_split_does_not_depend_on_the_seed():
    assert not rows(data.load("digits", "train", limit=1000, seed=1).x) & rows(data.load("digits", "test", seed=2).x)


def test_uint8_equals_float():
    exact, coarse = data.load("digits", "test"), data.load("digits", "test", dtype="uint8")
    assert coarse.x.dtype == np.uint8 and coarse.bounds == (0, 255) and coarse.x.max() == 255
    np.testing.assert_allclose(coarse.x / 255, exact.x, atol=0.5001 / 255)


def test_limit_is_balanced_nested_and_seeded():
    small, large = data.load("digits", limit=43, seed=3), data.load("digits", limit=200, seed=3)
    assert sorted(np.bincount(small.y)) == [4] * 7 + [5] * 3
    np.testing.assert_array_equal(large.x[:43], small.x)
    np.testing.assert_array_equal(data.load("digits", limit=43, seed=3).x, small.x)
    assert rows(data.load("digits", limit=43, seed=4).x) != rows(small.x)


def test_a_limit_past_the_end_gives_everything():
    assert len(data.load("digits", "test", limit=10_000)) == 397


def test_writing_into_images_leaves_the_next_load_alone():
    first = data.load("letters8", "test")
    first.x[:] = 0
    assert data.load("letters8", "test").x.max() > 0.9


def test_divide_gives_disjoint_parts_with_equal_shares():
    images = data.load("digits")
    first, second = images.divide(0.25, seed=1)
    assert (len(first), len(second)) == (350, 1050)
    assert not rows(first.x) & rows(second.x)
    np.testing.assert_allclose(np.bincount(first.y) / 350, np.bincount(images.y) / 1400, atol=1.01 / 350)
    assert rows(images.divide(350, seed=1)[0].x) == rows(first.x) != rows(images.divide(350, seed=2)[0].x)
    with pytest.raises(ValueError, match="first=1400"):
        images.divide(1400)


def test_repr_names_what_matters():
    assert repr(data.load("letters", "test")) == (
        "Images('letters', split='test', 1000 of 28x28x1, float32 in [0.0, 1.0], 10 classes: A, B, C, D, E, F, G, H, I, J)"
    )


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="Did you mean `cifar10`.*digits, letters"):
        data.load("cifar_10")


@pytest.mark.parametrize("wrong", [{"split": "valid"}, {"limit": 0}, {"dtype": "float64"}])
def test_wrong_argument_is_named(wrong):
    (argument, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=f"`{argument}` must be .*{value}"):
        data.load("digits", **wrong)


def test_every_name_has_one_line():
    assert {"digits", "letters", "mnist", "cifar100_out", "notmnist"} <= set(data.names())
    assert all(data.describe(name) and "\n" not in data.describe(name) for name in data.names())


@pytest.mark.parametrize(
    "name, advice",
    [
        ("fashion_mnist", "download=True"),
        ("nyu_depth_v2_small", "cannot be downloaded"),
        ("notmnist", "arrays images .* and labels"),
    ],
)
def test_missing_set_says_where_it_looked_and_what_to_do(nothing_here, name, advice):
    with pytest.raises(FileNotFoundError, match=advice) as error:
        data.load(name, data_dir=nothing_here / "mine")
    assert str(nothing_here / "mine" / name) in str(error.value)
    assert str(nothing_here / "default" / name) in str(error.value)
    assert not data.available(name) and data.available("digits")


def test_a_set_without_a_builder_is_never_downloaded(nothing_here):
    with pytest.raises(FileNotFoundError, match="cannot be downloaded"):
        data.load("imagenette_small", download=True)


def test_download_goes_to_the_first_place(nothing_here, monkeypatch):
    calls = []
    # Not the real one: it would go to the network, and takes half a minute to import.
    fetching = types.SimpleNamespace(load=lambda *args, **kwargs: calls.append((args, kwargs)))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fetching)
    with pytest.raises(FileNotFoundError):  # what was "downloaded" here is nothing
        data.load("fashion_mnist", data_dir=nothing_here / "mine", download=True)
    assert calls == [(("fashion_mnist",), {"data_dir": str(nothing_here / "mine"), "download": True})]


def test_missing_path_is_no_unknown_name():
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        data.load("nowhere/mine.npz")


def test_paths_are_searched_in_order(nothing_here, monkeypatch):
    y = np.arange(10).repeat(10)
    for place, value in (("mine", 1), ("environment", 2)):
        (nothing_here / place).mkdir()
        images = np.random.default_rng(value).integers(0, 255, size=(100, 28, 28), dtype="uint8")
        images[:, 0, 0] = value
        np.savez(nothing_here / place / "notmnist.npz", images=images, labels=y)
    monkeypatch.setenv("TFDEFENSE_DATA", str(nothing_here / "environment"))
    assert data.load("notmnist", data_dir=nothing_here / "mine", dtype="uint8").x[0, 0, 0, 0] == 1
    assert data.load("notmnist", dtype="uint8").x[0, 0, 0, 0] == 2
    assert data.load("notmnist", data_dir=Path("nowhere"), dtype="uint8").x[0, 0, 0, 0] == 2
