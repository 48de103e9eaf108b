"""Images of the study of photos: the ten things in parts that share none, and others to be shown, to choose by and to report."""

import numpy as np

SIDE = 96  # pixels of the ten's photos; all others are brought to it
SMALL = 32  # pixels of CIFAR's photos
# Classes of CIFAR-100 that are of the kind of one of the ten, decided before anything was measured: a fish, a dog, a building, a
# truck. What is left has nothing of the ten in it.
OVERLAP = ("aquarium_fish", "flatfish", "ray", "shark", "trout", "fox", "wolf", "castle", "house", "skyscraper")
OVERLAP += ("bus", "pickup_truck", "streetcar", "tractor")
OVERLAP_CIFAR10 = ("dog", "truck")
# What a head may be shown, and the sets tested that are of its kind: another draw, other rooms, or as small as they are.
SHOWN = {"textures": (), "shuffled": (), "CIFAR-10": ("CIFAR-100",), "rooms": ("NYU rooms",)}
TESTED = ("NYU rooms", "NotMNIST", "noise", "CIFAR-100")


def of_the_ten(data_dir, fitted=1_000, calibrated=300):
    """Photos of the ten: to fit on, to calibrate on, to choose by, and the test set, which is reported. They share none."""
    from tfdefense import data

    train, test = (data.load("imagenette_small", part, data_dir=data_dir) for part in ("train", "test"))
    rows = np.split(np.arange(len(train)), [fitted, fitted + calibrated])
    return dict(zip(("fit", "calibrate", "choose"), map(train.take, rows), strict=True)) | {"report": test}


def tested(data_dir, choose, report):
    """Sets of other things by name: a part to choose by, and one to report, which share no image.

    As many as are reported are passed over where they come from the same split: a first run of this study, whose candidates had one
    strength of the penalty, reported them.
    """
    from tfdefense import data

    def loaded(name, part):
        return data.load(name, part, data_dir=data_dir)

    counts = {"choose": choose, "report": report}
    # No flat is in both splits.
    rooms = loaded("nyu_depth_v2_small", "test").x[:choose], loaded("nyu_depth_v2_small", "train").x[:report]
    letters = some(loaded("notmnist", "train"), choose), some(loaded("notmnist", "test"), 2 * report)[report:]
    noise = [np.random.default_rng((seed, 8)).random((n, SIDE, SIDE, 3), "float32") for seed, n in enumerate(counts.values())]
    tiny = without(loaded("cifar100", "test"), OVERLAP)
    rows = _balanced(tiny.y, choose + 2 * report)
    both = {
        "NYU rooms": rooms,
        "NotMNIST": letters,
        "noise": noise,
        "CIFAR-100": (tiny.x[rows[:choose]], tiny.x[rows[choose + report :]]),
    }
    return {name: {part: sized(x) for part, x in zip(counts, pair, strict=True)} for name, pair in both.items()}


def shown(data_dir, fit, count, names=tuple(SHOWN)):
    """Other things that a head may be shown while it learns, by name; none of them is tested on."""
    return {name: _READERS[name](data_dir, fit, count) for name in names}


def _textures(data_dir, fit, count):
    from tfdefense.data.textures import draw_textures

    return draw_textures(count, size=fit.x.shape[1])[0]


def _tiny(data_dir, fit, count):
    from tfdefense import data

    images = without(data.load("cifar10", "train", data_dir=data_dir), OVERLAP_CIFAR10)
    return sized(some(images, count))


def _rooms(data_dir, fit, count):
    from tfdefense import data

    # The first test rooms are what candidates are chosen by; training rooms are reported.
    return sized(data.load("nyu_depth_v2_small", "test", data_dir=data_dir).x[-min(count, 400) :])


_READERS = {"textures": _textures, "shuffled": lambda data_dir, fit, count: shuffled(fit.x[:count]), "CIFAR-10": _tiny}
_READERS |= {"rooms": _rooms}


def shuffled(x, pieces=4, seed=0):
    """Photos cut in 4 x 4 pieces, which change places: what is in them without what they are of."""
    rng, size = np.random.default_rng(seed), SIDE // pieces
    grid = x.reshape(len(x), pieces, size, pieces, size, 3).swapaxes(2, 3).reshape(len(x), pieces**2, size, size, 3)
    grid = np.stack([each[rng.permutation(pieces**2)] for each in grid])
    return grid.reshape(len(x), pieces, pieces, size, size, 3).swapaxes(2, 3).reshape(x.shape)


def made_small(x):
    """Photos as CIFAR's are: 32 pixels wide, and enlarged again. They show the same things."""
    return sized(np.stack([squared(one, SMALL) for one in x]))


def sized(x):
    """Pictures as the ten's are: the middle, 96 pixels wide, in colour."""
    return np.stack([squared(one[..., :3]) for one in x])


def squared(image, side=SIDE):
    """The middle of a picture as a square of `side` pixels, in colour and in [0, 1]."""
    from PIL import Image

    image = np.asarray(image)
    whole = image if image.dtype == np.uint8 else np.rint(np.clip(image, 0, 1) * 255).astype("uint8")
    whole = np.repeat(whole, 3, -1) if whole.ndim == 3 and whole.shape[-1] == 1 else whole
    height, width = whole.shape[:2]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    middle = Image.fromarray(np.ascontiguousarray(whole[top : top + short, left : left + short]))
    return np.asarray(middle.resize((side, side), Image.Resampling.BICUBIC), "float32") / 255


def without(images, classes):
    """Images of the other classes."""
    missing = set(classes) - set(images.classes)
    if missing:
        raise ValueError(f"Expected {images.name} to have the classes {', '.join(sorted(missing))}. Received none of them.")
    return images.take(~np.isin(images.y, [images.classes.index(name) for name in classes]))


def some(images, count):
    return images.x[_balanced(images.y, count)]


def _balanced(y, count):
    """Rows of so many images, as many of each class as can be."""
    from tfdefense.data.images import balanced_order

    return balanced_order(y, 1)[:count]
