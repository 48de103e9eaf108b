"""`python -m evaluation demo --photos`: "this is a golf ball", "this is none of the ten", on real photos."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.benchmarks.photos.material import squared

OF_THE_TEN, OTHER = "of the ten", "something else"
# Photos in the package of scikit-image, where it is installed; none of them is one of the ten things.
_SKIMAGE = {"an astronaut": "astronaut.png", "a cat": "chelsea.png", "a cup of coffee": "coffee.png", "a horse": "horse.png"}
_SKIMAGE |= {"coins": "coins.png", "grass": "grass.png"}
_SKLEARN = {"a temple": "china.jpg", "a flower": "flower.jpg"}
_EACH = 3  # of rooms, drawn letters and textures


class Photo(NamedTuple):
    """What it shows, in words; a picture in [0, 1]; and whether one of the ten is the right answer."""

    name: str
    x: np.ndarray
    kind: str


class Answer(NamedTuple):
    """What the network alone says, how sure it is, and what it says with the defense; in words."""

    plain: str
    confidence: float
    defended: str


def show(context, console, steps, picture=None):
    """Asks the model of the zoo about photos; prints a table, and draws them with the answers.

    `picture` is the path of one more picture: two photos, as in the README.
    """
    from tfdefense.zoo import imagenet

    imagenet.weights_file()  # Whoever lacks the package is told at once.
    with steps("Take the network of ImageNet with a head of ten classes and a dustbin"):
        defended = model(context)
    with steps("Gather photos of the ten things and of others, and ask"):
        photos = gathered(context.data_dir)
        found = answers(defended, np.stack([photo.x for photo in photos]))
    with steps("Draw"):
        path = context.output / "photos.png"
        draw(photos, found, path)
        if picture is not None:
            draw_two(*two(photos, found), path=picture)
    console.print(table(photos, found))
    console.print(f"  {path}", highlight=False, soft_wrap=True)


def model(context):
    """That of the zoo; where this version comes without it, its head is fitted now, in a minute or two."""
    from evaluation.benchmarks import zoo, zoo_photos
    from tfdefense import data
    from tfdefense import zoo as shipped

    if zoo_photos.NAME in shipped.list():
        return shipped.load(zoo_photos.NAME)
    if not data.available(zoo_photos.DATASET, context.data_dir):
        raise ValueError(
            f"This version comes without '{zoo_photos.NAME}', and the images that fit it, the set '{zoo_photos.DATASET}', are not "
            "here. Name the folder that holds them: `--data-dir`, or $TFDEFENSE_DATA."
        )
    entry = zoo.ENTRIES[zoo_photos.NAME]
    return context.model(f"model {zoo_photos.NAME}", zoo.build, context, entry, *zoo.divided(context, entry)[:2])


def gathered(data_dir=None):
    """Photos that are here: of scikit-learn and drawn ones always, others where their package or data set is."""
    from sklearn.datasets import load_sample_image

    from tfdefense import data
    from tfdefense._untrusted import read_image

    photos = []
    if data.available("imagenette_small", data_dir):
        test = data.load("imagenette_small", "test", data_dir=data_dir, limit=len(names_of_the_ten(data_dir)))
        photos += [Photo(f"{test.classes[y]}", squared(x), OF_THE_TEN) for x, y in zip(test.x, test.y, strict=True)]
    # A temple is near to the ten's church: see what the model makes of it.
    photos += [Photo(name, squared(load_sample_image(file)), OTHER) for name, file in _SKLEARN.items()]
    if folder := _skimage():
        files = {name: folder / file for name, file in _SKIMAGE.items() if (folder / file).exists()}
        photos += [Photo(name, squared(np.asarray(read_image(file).convert("RGB"))), OTHER) for name, file in files.items()]
    drawn = {"nyu_depth_v2_small": "a room", "letters": "a letter", "textures": "a texture"}
    for name, what in drawn.items():
        if data.available(name, data_dir):
            images = data.load(name, "test", data_dir=data_dir).take(slice(0, _EACH))
            photos += [Photo(what, squared(x[..., :3]), OTHER) for x in images.x]
    return photos


def names_of_the_ten(data_dir=None):
    from tfdefense import data

    return data.load("imagenette_small", "test", data_dir=data_dir, limit=1).classes


def _skimage():
    """Where scikit-image has its pictures, found without importing it."""
    found = importlib.util.find_spec("skimage")
    places = (found and found.submodule_search_locations) or ()
    return next((Path(place) / "data" for place in places), None)


def answers(defended, x):
    """An `Answer` for each picture."""
    from tfdefense.contract import class_names
    from tfdefense.view import decide

    names, found = class_names(defended), decide(defended, x)
    shares = np.exp(found.scores - found.scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    said = [names[label] if label >= 0 else f"none of the {len(names)}" for label in found.label]
    return [Answer(names[row.argmax()], float(row.max()), words) for row, words in zip(shares, said, strict=True)]


def table(photos, found):
    """A line for each photo."""
    from rich.table import Table

    shown = Table(title="What is in the photo? The network alone, and with the rejection", title_justify="left")
    for column in ("photo of", "", "network alone", "with the rejection"):
        shown.add_column(column)
    for photo, answer in zip(photos, found, strict=True):
        shown.add_row(photo.name, photo.kind, f"{answer.plain}, {answer.confidence:.0%} sure", answer.defended)
    return shown


def draw(photos, found, path, columns=8):
    """The photos with the answers; grey words are rejections."""
    from tfdefense.plots import canvas

    rows = -(-len(photos) // columns)
    with canvas.figure((1.25 * columns, 1.5 * rows), path) as figure:
        for place, axes in enumerate(np.ravel(figure.subplots(rows, columns, squeeze=False))):
            axes.axis("off")
            if place < len(photos):
                photo, answer = photos[place], found[place]
                axes.imshow(photo.x)
                axes.set_title(answer.defended, fontsize=7, color=canvas.INK if answer.defended == answer.plain else canvas.FAINT)


def two(photos, found):
    """A photo of the ten things that keeps its class, and one of something else that the network alone is surest about.

    Each is a pair (photo, answer). They are chosen to show what a rejection is; how often it works is in the table. The other
    photo is one of a package, which anybody may show; the first is of the class that the network takes the other for, if one is.
    """
    pairs = list(zip(photos, found, strict=True))
    kept = [pair for pair in pairs if pair[0].kind == OF_THE_TEN and pair[0].name == pair[1].plain == pair[1].defended]
    rejected = [pair for pair in pairs if pair[0].name in _SKLEARN | _SKIMAGE and pair[1].plain != pair[1].defended]
    if not kept or not rejected:
        raise ValueError(
            "`--picture` needs a photo of the ten things that is accepted and another that is rejected. "
            f"Received {len(kept)} and {len(rejected)}. The set 'imagenette_small' has some: `--data-dir`, or $TFDEFENSE_DATA."
        )
    other = max(rejected, key=lambda pair: pair[1].confidence)
    return max(kept, key=lambda pair: (pair[0].name == other[1].plain, pair[1].confidence)), other


def draw_two(*pairs, path):
    """Photos side by side; above each what the network alone says, below it what the defended one does."""
    from tfdefense.plots import canvas

    with canvas.figure((2.4 * len(pairs), 3.0), path) as figure:
        for axes, (photo, answer) in zip(figure.subplots(1, len(pairs)), pairs, strict=True):
            axes.imshow(photo.x)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            axes.set_title(f"network alone:\n{answer.plain}, {answer.confidence:.0%} sure", fontsize=9, color=canvas.FAINT)
            axes.set_xlabel(f"with the rejection:\n{answer.defended}", fontsize=10, color=canvas.INK)
