"""Square crops of larger pictures, shrunk to the size of CIFAR-10's: out-of-distribution images for its dustbin."""

import numpy as np

from tfdefense.data import prepared

SIZE = 32
# Classes of ImageNet that are also CIFAR-10's: dogs and trucks.
LIKE_CIFAR10 = ("English springer", "garbage truck")


def read(name, *, split, data_dir, download, each, test="test", without=()):
    """So many crops of each picture of a set, of at least half its shorter side; places follow from the picture's number alone.

    Splits are those of the pictures: no picture is in both.
    """
    if split == "all":
        parts = [read(name, split=part, data_dir=data_dir, download=download, each=each, test=test, without=without)
                 for part in ("train", "test")]  # fmt: skip
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), parts[0][2]
    x, y, classes = prepared.read(name, split=split, data_dir=data_dir, download=download, test=test)
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
        part = Image.fromarray(picture[top : top + side, left : left + side]).resize((SIZE, SIZE), Image.Resampling.BOX)
        yield np.asarray(part)
