"""Sets that lie on the disk: in the format of TensorFlow Datasets, or as a file of their own."""

import functools
import os
from pathlib import Path

import numpy as np

from tfdefense._untrusted import read_arrays
from tfdefense.data import tfds_folder

# Without a builder in TensorFlow Datasets: read from their metadata, never downloaded.
_NO_BUILDER = ("imagenette_small", "nyu_depth_v2_small")

LIKE_CIFAR10 = ("vehicles_1", "vehicles_2", "medium_mammals", "small_mammals", "large_carnivores")
# Of those 25 the classes that no class of CIFAR-10 holds: neither cars and trucks, nor cats and dogs and their kind.
YET_NOT_CIFAR10 = ("bear", "bicycle", "hamster", "lawn_mower", "motorcycle", "mouse", "porcupine", "possum", "rabbit", "raccoon")
YET_NOT_CIFAR10 += ("rocket", "shrew", "skunk", "squirrel")
# Classes of ImageNet that are also CIFAR-10's: dogs and trucks.
DOGS_AND_TRUCKS = ("English springer", "garbage truck")
_CROP = 32  # side of crops, that of CIFAR-10's images


def read(name, *, split, data_dir, download, test="test", without=(), only=()):
    """Reads a set in the format of TensorFlow Datasets; `test` is what the set itself calls its test split.

    `without` are coarse classes that are left out, `only` the classes that alone are read.
    """
    wanted = test if split == "test" else split
    here, splits = _folder_with(name, wanted, data_dir)
    if here is None and download and name not in _NO_BUILDER:
        _download(name, data_dir)
        here, splits = _folder_with(name, wanted, data_dir)
    if here is None and splits:
        raise ValueError(_lacks_split(name, split, splits, test))
    if here is None:
        raise FileNotFoundError(_missing(name, data_dir))
    arrays, classes, coarse = _decode(here, wanted)
    x, y = arrays["image"], arrays.get("label", arrays.get("index"))
    if "depth" in arrays:
        x = np.concatenate([x, arrays["depth"]], axis=-1)
    if without:
        if "coarse_label" not in arrays or not set(without) <= set(coarse):
            raise ValueError(f"{here} must have a coarse_label with the classes {', '.join(without)}, which are left out.")
        x, y, classes = _some(x, y, classes, ~np.isin(arrays["coarse_label"], [coarse.index(name) for name in without]))
    if only:
        if not set(only) <= set(classes):
            raise ValueError(f"{here} must have the classes {', '.join(only)}. Received: {', '.join(classes)}.")
        x, y, classes = _some(x, y, classes, np.isin(y, [classes.index(name) for name in only]))
    return x, y, classes


def _some(x, y, classes, kept):
    """Labels have gaps once classes are left out, and a gap is a class that no sample belongs to."""
    old, y = np.unique(y[kept], return_inverse=True)
    return x[kept], y, tuple(classes[label] for label in old)


def read_divided(name, *, split, data_dir, download, part="test", **options):
    """Reads one split of a set as if it were the whole, and divides it into training and test images."""
    x, y, classes = read(name, split=part, data_dir=data_dir, download=download, **options)
    return *_divided(x, y, split), classes


def read_crops(name, *, split, data_dir, download, each, test="test", without=()):
    """So many crops of each picture of a set, of at least half its shorter side; places follow from the picture's number alone.

    Splits are those of the pictures: no picture is in both.
    """
    if split == "all":
        parts = [read_crops(name, split=part, data_dir=data_dir, download=download, each=each, test=test, without=without)
                 for part in ("train", "test")]  # fmt: skip
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), parts[0][2]
    x, y, classes = read(name, split=split, data_dir=data_dir, download=download, test=test)
    x = x[..., :3]
    if not classes:
        # Its labels are the numbers of the pictures.
        y, classes = np.zeros(len(x), "int64"), ("room",)
    kept = ~np.isin(y, [classes.index(one) for one in without])
    left = [one for one in classes if one not in without]
    y = np.array([left.index(classes[one]) for one in y[kept]])
    crops = [crop for number in np.flatnonzero(kept) for crop in _crops(x[number], each, (split == "test", number))]
    return np.stack(crops), np.repeat(y, each), tuple(left)


def _crops(picture, each, seed):
    from PIL import Image

    rng, (height, width) = np.random.default_rng(tuple(map(int, seed))), picture.shape[:2]
    for _ in range(each):
        side = int(rng.integers(min(height, width) // 2, min(height, width) + 1))
        top, left = (int(rng.integers(0, whole - side + 1)) for whole in (height, width))
        part = Image.fromarray(picture[top : top + side, left : left + side]).resize((_CROP, _CROP), Image.Resampling.BOX)
        yield np.asarray(part)


def find(name, data_dir=None):
    """The first folder that holds the set, or None."""
    return next(iter(_folders(name, data_dir)), None)


def read_notmnist(*, split, data_dir, download):
    path = find_notmnist(data_dir)
    if path is None:
        looked = _listed(place / "notmnist.npz" for place in _places(data_dir))
        raise FileNotFoundError(
            f"`notmnist` was not found. Looked for {looked}. It cannot be downloaded: put notmnist.npz there, with the "
            "arrays images (N, 28, 28) uint8 and labels (N,) 0-9 for A-J. `letters` looks alike and needs no file."
        )
    arrays, found = read_arrays(path, ("images", "labels"))
    if len(arrays) < 2:
        raise ValueError(f"{path} must hold the arrays images and labels. Received: {', '.join(found) or 'none'}.")
    x, y = arrays["images"], arrays["labels"]
    if x.dtype != np.uint8 or x.shape[1:] != (28, 28) or not len(x):
        raise ValueError(f"Images in {path} must be uint8 of shape (N, 28, 28). Received: {x.dtype} of shape {x.shape}.")
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1] or y.min() < 0 or y.max() > 9:
        raise ValueError(f"Labels in {path} must be {len(x)} numbers from 0 to 9. Received: {y.dtype} of shape {y.shape}.")
    return *_divided(x[..., None], y, split), tuple("ABCDEFGHIJ")


def find_notmnist(data_dir=None):
    return next((path for place in _places(data_dir) if (path := place / "notmnist.npz").is_file()), None)


def _divided(x, y, split):
    if split == "all":
        return x, y
    in_train = _train_mask(x, y)
    return (x[in_train], y[in_train]) if split == "train" else (x[~in_train], y[~in_train])


def _train_mask(x, y, share=0.7):
    """Marks 70 % of each class. Images that occur more than once all go there, or the test set would not be unseen."""
    _, image, counts = np.unique(x.reshape(len(x), -1), axis=0, return_inverse=True, return_counts=True)
    repeated = counts[image.reshape(-1)] > 1
    order = np.lexsort((np.random.default_rng(0).random(len(x)), ~repeated))
    in_train = np.zeros(len(x), dtype=bool)
    for label in np.unique(y):
        members = order[y[order] == label]
        in_train[members[: round(share * len(members))]] = True
    return in_train


def _places(data_dir):
    tfds_default = os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets")
    given = [data_dir, os.environ.get("TFDEFENSE_DATA"), tfds_default]
    return list(dict.fromkeys(Path(place).expanduser() for place in given if place))


def _roots(data_dir):
    return [place / "tfds" if (place / "tfds").is_dir() else place for place in _places(data_dir)]


def _folders(name, data_dir):
    for root in _roots(data_dir):
        versions = [path.parent for path in (root / name).glob("*/dataset_info.json")]
        yield from sorted(versions, key=lambda path: [int(n) if n.isdigit() else -1 for n in path.name.split(".")])[-1:]


def _folder_with(name, split, data_dir):
    """The first folder with that split, and the splits of the folders that lack it."""
    lacking = {}
    for folder in _folders(name, data_dir):
        splits = tuple(tfds_folder.splits(folder))
        if split == "all" or split in splits:
            return folder, lacking
        lacking[folder] = splits
    return None, lacking


# Decoding 50,000 PNGs takes seconds; two splits kept make a second `load` of train and test free.
_decode = functools.lru_cache(maxsize=2)(tfds_folder.read)


def _download(name, data_dir):
    import tensorflow_datasets as tfds

    # A folder that holds the set without this split is left alone: it would be overwritten, or taken as complete.
    root = next((root for root in _roots(data_dir) if not any((root / name).glob("*/dataset_info.json"))), None)
    if root is not None:
        tfds.load(name, data_dir=str(root), download=True)


def _missing(name, data_dir):
    looked = _listed(root / name for root in _roots(data_dir))
    if name in _NO_BUILDER:
        how = "It cannot be downloaded: copy its folder, the one with dataset_info.json, to one of these places"
    else:
        how = f"To fetch it: `td.data.load({name!r}, download=True)`, or --download where a command has that"
    return (
        f"`{name}` was not found. Looked for {looked}. {how}, or set `data_dir` (--data-dir) or $TFDEFENSE_DATA to a "
        "folder that has it."
    )


def _lacks_split(name, split, lacking, test):
    has = {("test" if part == test else part) for splits in lacking.values() for part in splits}
    more = "" if name in _NO_BUILDER else ", or download=True with a `data_dir` where the set is not yet"
    return (
        f"`{name}` in {_listed(lacking)} has no {split!r} split. Expected split to be one of {sorted(has)}. "
        f"Received: split={split!r}. Pass split={min(has)!r}{more}."
    )


def _listed(paths):
    return ", ".join(str(path) for path in paths)
