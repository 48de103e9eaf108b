"""Images of no class: near and far ones of each data set, in the form that its network takes."""

import functools

import numpy as np

from evaluation.benchmarks.photos.material import OVERLAP, OVERLAP_CIFAR10, squared


def _loaded(name, split, number, without=(), data_dir=None):
    """So many images of a set, as many of each class as there are, without some of its classes."""
    from tfdefense import data
    from tfdefense.data.images import balanced_order

    images = data.load(name, split, data_dir=data_dir, dtype="uint8")
    missing = set(without) - set(images.classes)
    if missing:
        raise ValueError(f"`{name}` must have the classes {', '.join(without)}, which are left out. Missing: {sorted(missing)}.")
    # The labels of rooms are their numbers, and no class has two.
    kept = np.flatnonzero(~np.isin(images.y, [images.classes.index(one) for one in without]))
    chosen = kept[balanced_order(images.y[kept], 0)[:number]]
    return images.x[chosen][..., :3]


def _drawn(split, number, side, channels):
    from tfdefense import data

    return data.draw_textures(number, split, size=side, channels=channels)[0]


def _noise(split, number, side, channels):
    """Each value of each pixel drawn evenly from all that it may be."""
    return np.random.default_rng(("train", "test").index(split)).random((number, side, side, channels), "float32")


_READ = {
    "CIFAR-100": functools.partial(_loaded, "cifar100"),
    "CIFAR-100, other classes": functools.partial(_loaded, "cifar100", without=OVERLAP),
    "CIFAR-10, other classes": functools.partial(_loaded, "cifar10", without=OVERLAP_CIFAR10),
    "NotMNIST": functools.partial(_loaded, "notmnist"),
    "NYU rooms": functools.partial(_loaded, "nyu_depth_v2_small"),
    "crops of Imagenette": functools.partial(_loaded, "imagenette_crops"),
    "drawn letters": functools.partial(_loaded, "letters8"),
}
_MADE = {"textures": _drawn, "noise": _noise}


@functools.lru_cache(maxsize=8)
def load(name, shape, number, split="test", data_dir=None):
    """At most so many images of one of these sets, float32 in [0, 1]; of another shape their middle square is resized."""
    if name in _MADE:
        return _MADE[name](split, number, shape[0], shape[-1])
    if name not in _READ:
        raise ValueError(f"An OOD set is one of {', '.join((*_READ, *_MADE))}. Received {name!r}.")
    x = _READ[name](split, number, data_dir=data_dir)
    if x.shape[1:] == tuple(shape):
        return x.astype("float32") / 255
    return np.stack([squared(image, shape[0]) for image in x])
