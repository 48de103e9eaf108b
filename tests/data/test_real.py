"""Sets that lie on the disk: counts that are known from their publication."""

import os
from pathlib import Path

import numpy as np
import pytest

from tfdefense import data


def load(name, *args, **kwargs):
    if not os.environ.get("TFDEFENSE_DATA"):
        pytest.skip(f"{name} needs a data folder: $TFDEFENSE_DATA is not set")
    if not data.available(name):
        pytest.skip(f"{name} is not in $TFDEFENSE_DATA = {os.environ['TFDEFENSE_DATA']}")
    return data.load(name, *args, **kwargs)


def test_mnist_has_the_published_counts_and_first_labels():
    test = load("mnist", "test", dtype="uint8")
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert test.x.shape == (10000, 28, 28, 1) and test.x.max() == 255
    assert test.x.mean() == pytest.approx(33.79, abs=0.01)


def test_float_images_are_the_bytes_over_255():
    exact, coarse = load("mnist", "test", limit=20), load("mnist", "test", limit=20, dtype="uint8")
    np.testing.assert_array_equal(exact.x, coarse.x.astype("float32") / np.float32(255))
    assert np.bincount(exact.y).tolist() == [2] * 10


def test_cifar10_names_its_classes():
    test = load("cifar10", "test", limit=500)
    assert test.classes[:3] == ("airplane", "automobile", "bird") and test.classes[9] == "truck"
    assert test.x.shape == (500, 32, 32, 3)
    # Ships lie on blue, frogs do not: names and images belong together.
    blue = test.x[..., 2].mean(axis=(1, 2)) - test.x[..., 0].mean(axis=(1, 2))
    assert blue[test.y == 8].mean() > 0.03 > blue[test.y == 6].mean()


def test_cifar100_out_leaves_25_classes_out():
    everything, out = load("cifar100", "test", dtype="uint8"), load("cifar100_out", "test", dtype="uint8")
    assert np.bincount(out.y).tolist() == [100] * 75 and len(everything) == 10000
    gone = set(everything.classes) - set(out.classes)
    assert {"bus", "tank", "wolf", "leopard", "hamster", "fox", "skunk", "streetcar"} <= gone and len(gone) == 25
    old, new = everything.classes.index("whale"), out.classes.index("whale")
    np.testing.assert_array_equal(everything.x[everything.y == old], out.x[out.y == new])


def test_cifar100_says_which_split_is_missing(tmp_path, monkeypatch):
    load("cifar100", "test", limit=1)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    if list(Path(os.environ["TFDEFENSE_DATA"]).rglob("cifar100-train*")):
        pytest.skip("this data folder has the training split of cifar100 as well")
    with pytest.raises(ValueError, match=r"no 'train' split.*\['test'\].*split='test'"):
        data.load("cifar100", "train")


def test_imagenette_test_is_its_validation_split():
    test = load("imagenette_small", "test", dtype="uint8")
    assert np.bincount(test.y).tolist() == [50] * 10 and test.x.shape == (500, 96, 96, 3)
    assert "garbage truck" in test.classes


def test_nyu_depth_has_depth_as_fourth_channel():
    test = load("nyu_depth_v2_small", "test", dtype="uint8")
    assert test.x.shape == (654, 96, 128, 4) and test.classes == ()
    assert len(set(test.y.tolist())) == 654 and 0 <= test.y.min() and test.y.max() <= 1448
    metres = (test.x[..., 3] + 0.5) / 25.5
    assert 2 < metres.mean() < 4


def test_notmnist_splits_share_no_image():
    train, test = load("notmnist", "train"), load("notmnist", "test")
    assert np.bincount(train.y).tolist() == [700] * 10 and np.bincount(test.y).tolist() == [300] * 10
    seen = {image.tobytes() for image in train.x}
    assert not any(image.tobytes() in seen for image in test.x)


def test_small_cifar100_out_is_divided_without_a_common_image():
    parts = [load("cifar100_out_small", split, dtype="uint8") for split in ("train", "test", "all")]
    train, test, everything = ({image.tobytes() for image in part.x} for part in parts)
    assert [len(part) for part in parts] == [5250, 2250, 7500] and [set(np.bincount(part.y)) for part in parts[:2]] == [{70}, {30}]
    assert not train & test and train | test == everything


def test_rest_of_cifar100_has_no_class_of_the_out_of_distribution_set_nor_of_cifar10():
    rest, out = load("cifar100_rest", "train", dtype="uint8"), load("cifar100_out_small", "train", dtype="uint8")
    test = load("cifar100_rest", "test", dtype="uint8")
    assert (len(rest), len(test)) == (980, 420) and set(np.bincount(rest.y)) == {70}
    assert len(rest.classes) == 14 and not {*rest.classes} & {*out.classes} and "bus" not in rest.classes
    held_back = {image.tobytes() for image in load("cifar100_out_small", "test", dtype="uint8").x}
    assert not held_back & {image.tobytes() for image in rest.x}, "what rejection is tested on"


@pytest.mark.parametrize(
    ("name", "pictures", "each", "counts"),
    [("nyu_crops", "nyu_depth_v2_small", 4, (3180, 2616)), ("imagenette_crops", "", 3, (3600, 1200))],
)
def test_crops_are_squares_of_the_pictures_of_their_own_split(name, pictures, each, counts):
    train, test = (load(name, split, dtype="uint8") for split in ("train", "test"))
    assert (len(train), len(test)) == counts and train.x.shape[1:] == (32, 32, 3)
    assert not {image.tobytes() for image in train.x} & {image.tobytes() for image in test.x}
    assert not {"English springer", "garbage truck"} & {*train.classes}
    np.testing.assert_array_equal(train.x[:9], load(name, "train", dtype="uint8").x[:9])
    if pictures:
        whole = load(pictures, "train", dtype="uint8").x[:50, ..., :3].reshape(50, -1, 3).mean(1)
        crops = train.x[: 50 * each].reshape(50, each, -1, 3).mean((1, 2))
        assert np.corrcoef(whole.ravel(), crops.ravel())[0, 1] > 0.8, "of these pictures, in their order"
