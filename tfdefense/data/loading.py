"""`load`: images by name or from the user's own files."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdefense._suggest import did_you_mean
from tfdefense._validation import PathLike, are_numbers, checked_names
from tfdefense.data import embedded, own, prepared
from tfdefense.data.images import Images, balanced_order


@dataclass(frozen=True)
class _Set:
    """A line on the set, how to read a split (-> x, y, classes), and whether its files are here (None: needs none)."""

    about: str
    read: Callable
    find: Callable | None = None


def _prepared(name, about, **options):
    return _Set(about, functools.partial(prepared.read, name, **options), functools.partial(prepared.find, name))


def _crops(name, about, **options):
    return _Set(about, functools.partial(prepared.read_crops, name, **options), functools.partial(prepared.find, name))


_SETS = {
    "digits": _Set("Handwritten digits 0-9, 8x8 grey, 1,400 / 397; embedded (scikit-learn)", embedded.digits),
    "letters": _Set("Letters A-J drawn in many fonts, 28x28 grey, 5,000 / 1,000; embedded, looks like NotMNIST", embedded.letters),
    "letters8": _Set(
        "The drawn letters in 8x8 grey, 5,000 / 1,000; embedded, out-of-distribution set of `digits`",
        functools.partial(embedded.letters, size=8),
    ),
    "textures": _Set(
        "Drawn textures and shapes, 32x32 colour, 5,000 / 1,000; embedded, out-of-distribution images for CIFAR-10",
        embedded.textures,
    ),
    "textures8": _Set(
        "Drawn textures and shapes in 8x8 grey, 5,000 / 1,000; embedded, out-of-distribution images for `digits`",
        functools.partial(embedded.textures, size=8, channels=1),
    ),
    "mnist": _prepared("mnist", "Handwritten digits 0-9, 28x28 grey, 60,000 / 10,000"),
    "fashion_mnist": _prepared("fashion_mnist", "Clothes in 10 classes, 28x28 grey, 60,000 / 10,000"),
    "notmnist": _Set(
        "Letters A-J in web fonts, 28x28 grey, 7,000 / 3,000; out-of-distribution set of MNIST",
        prepared.read_notmnist,
        prepared.find_notmnist,
    ),
    "cifar10": _prepared("cifar10", "Photographs in 10 classes, 32x32 colour, 50,000 / 10,000"),
    "cifar100": _prepared("cifar100", "Photographs in 100 classes, 32x32 colour, 50,000 / 10,000"),
    "cifar100_out": _prepared(
        "cifar100",
        "CIFAR-100 without the 25 classes of vehicles and mammals that resemble CIFAR-10's; its out-of-distribution set",
        without=prepared.LIKE_CIFAR10,
    ),
    "cifar100_out_small": _Set(
        "The test images of `cifar100_out` alone, 5,250 / 2,250; for where CIFAR-100's training images are missing",
        functools.partial(prepared.read_divided, "cifar100", without=prepared.LIKE_CIFAR10),
        functools.partial(prepared.find, "cifar100"),
    ),
    "cifar100_rest": _Set(
        "CIFAR-100's test images of 14 classes that `cifar100_out` leaves out and that are yet none of CIFAR-10's, 980 / 420",
        functools.partial(prepared.read_divided, "cifar100", only=prepared.YET_NOT_CIFAR10),
        functools.partial(prepared.find, "cifar100"),
    ),
    "nyu_crops": _crops(
        "nyu_depth_v2_small", "Crops of indoor scenes, 32x32 colour, 3,180 / 2,616; of `nyu_depth_v2_small`", each=4
    ),
    "imagenette_crops": _crops(
        "imagenette_small",
        "Crops of ImageNet's pictures, 32x32 colour, 3,600 / 1,200; of `imagenette_small` without its dogs and trucks",
        each=3,
        test="validation",
        without=prepared.DOGS_AND_TRUCKS,
    ),
    "imagenette_small": _prepared("imagenette_small", "Ten classes of ImageNet, 96x96 colour, 1,500 / 500", test="validation"),
    "nyu_depth_v2_small": _prepared(
        "nyu_depth_v2_small",
        "Indoor scenes with depth, 96x128, channels red, green, blue, depth (1 = 10 m), 795 / 654; y is the index",
    ),
}


def names() -> tuple[str, ...]:
    """The names that `load` knows.

    Example:

    >>> "mnist" in names()
    True
    """
    return tuple(_SETS)


def describe(name: str) -> str:
    """One line on the set of that name.

    Args:
        name: One of `names()`.

    Example:

    >>> describe("mnist")
    'Handwritten digits 0-9, 28x28 grey, 60,000 / 10,000'
    """
    return _known(name).about


def available(name: str, data_dir: PathLike | None = None) -> bool:
    """Whether `load(name)` finds its files without the network.

    Args:
        name: One of `names()`.
        data_dir: As for `load`.

    Example:

    >>> available("digits")
    True
    """
    find = _known(name).find
    return find is None or find(data_dir) is not None


def load(
    name: PathLike,
    split: str = "train",
    *,
    data_dir: PathLike | None = None,
    download: bool = False,
    limit: int | None = None,
    seed: int = 0,
    dtype: str = "float32",
    classes: Sequence[str] | None = None,
    labels: bool = True,
) -> Images:
    """Loads images by name, or from a file or folder of your own.

    Args:
        name: One of `names()`; or the path of an `.npz` with arrays `x` and `y`, `images` and `labels`, or `x_train`,
            `y_train`, `x_test`, `y_test` (and, if you like, `classes`); or of a folder with one sub-folder of images
            for each class. Files without splits of their own are split 80 to 20, always in the same way.
        split: `"train"`, `"test"`, or `"all"` for everything there is.
        data_dir: Folder that is searched first; then come `$TFDEFENSE_DATA` and the default of TensorFlow Datasets.
        download: Whether a set that is not found may be downloaded. Without it the network is never used.
        limit: At most so many images: a random subset with equally many of each class, as far as they reach. A
            smaller subset of the same seed is the beginning of a larger one.
        seed: Integer, for the choice of the subset alone: splits never depend on it.
        dtype: `"float32"` for values in [0, 1] or `"uint8"` for 0 to 255.
        classes: Names by which the classes are numbered, such as `td.contract.class_names(model)`. Some may be missing from the
            images; a class of theirs that is none of the names is an error. None leaves a set's own order; folders have that of
            the alphabet.
        labels: Whether the classes are needed. Without them a folder may also hold its images directly; `classes` of what is given
            is then empty, and `y` counts them.

    Returns:
        `Images` with `x`, `y`, `classes` and `bounds`.

    Example:

    >>> images = load("digits", limit=100)
    >>> images.x.shape
    (100, 8, 8, 1)
    """
    if split not in ("train", "test", "all"):
        raise ValueError(f"`split` must be 'train', 'test' or 'all'. Received: split={split!r}.")
    if dtype not in ("float32", "uint8"):
        raise ValueError(f"`dtype` must be 'float32' or 'uint8'. Received: dtype={dtype!r}.")
    if limit is not None and (not isinstance(limit, (int, np.integer)) or limit < 1):
        raise ValueError(f"`limit` must be a positive integer, or None for all images. Received: limit={limit!r}.")

    if _is_own(name):
        x, y, found = own.read(Path(name), split, labels)
    else:
        x, y, found = _known(name).read(split=split, data_dir=data_dir, download=download)
    if limit is not None and limit < len(x):
        chosen = balanced_order(y, seed)[:limit]
        x, y = x[chosen], y[chosen]
    bounds = (0.0, 1.0) if dtype == "float32" else (0, 255)
    images = Images(_convert(x, dtype), y.astype("int32"), tuple(found), str(name), split, bounds)
    return images if classes is None or not images.classes else _numbered_by(checked_names(classes), images)


def _numbered_by(names, images):
    if images.name in _SETS or Path(images.name).is_dir() or not are_numbers(images.classes):
        return images.numbered(names)
    # An .npz without names has numbers: the model's, as far as anyone can tell.
    if len(images.classes) > len(names):
        raise ValueError(f"{images.name} has a class {len(images.classes) - 1}, counted from 0. The model has {len(names)}.")
    return dataclasses.replace(images, classes=names)


def _known(name):
    if name in _SETS:
        return _SETS[name]
    raise ValueError(
        f"No images named {name!r}.{did_you_mean(name, _SETS)} Expected one of {', '.join(_SETS)}, "
        "or the path of an .npz file or of a folder with one sub-folder for each class."
    )


def _is_own(name):
    if name in _SETS:
        return False
    path = Path(name)
    if path.exists():
        return True
    if isinstance(name, Path) or path.suffix or os.sep in name:
        raise FileNotFoundError(f"There is no file or folder {name}. Its absolute path would be {path.absolute()}.")
    return False


def _convert(x, dtype):
    # Always a copy: the readers keep what they read, and a caller may write into what it gets.
    if dtype == "uint8":
        return x.copy() if x.dtype == np.uint8 else np.rint(x * 255).astype("uint8")
    x, whole = x.astype("float32"), x.dtype == np.uint8
    if whole:
        x /= 255
    return x
