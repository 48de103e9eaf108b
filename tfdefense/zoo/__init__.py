"""Models that are defended already. Each has a card, a JSON file that says what it is and how robust.

`td.zoo.list()` names them, `td.zoo.load("digits_cnn.dnr")` gives the model, checked against the card. The cards are written
by `python -m evaluation zoo`, from measurements alone.

`td.zoo.networks()` names plain classifiers, to attach a defense to; their weights come from a package of their own.
"""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tfdefense._suggest import did_you_mean
from tfdefense._untrusted import check_file, read_json
from tfdefense._validation import Model, PathLike
from tfdefense.zoo import imagenet

if TYPE_CHECKING:
    import numpy as np


CARDS = Path(__file__).parent
# Models that a version may come without, and the set on which their protocol makes them. A test compares them with the protocol.
MADE_BY_PROTOCOL = {
    "cifar10_resnet14_attacked.confidence": "cifar10",
    "imagenette_lite0.dustbin": "imagenette_small",
    "mnist_cnn_attacked.confidence": "mnist",
    "nyu_scene.safetynet": "nyu_depth_v2_small",
}


@dataclass(frozen=True)
class Card:
    """What a model is and what was measured of it.

    Attributes:
        name: `network.defense`.
        summary: One line.
        architecture, defense: How it is built.
        recipe: The command that trains the network.
        data: The name of the data set, for `td.data.load`.
        bounds: Lowest and highest pixel value.
        clean: On clean test samples: `accuracy` (a rejected one is not right), `false_positive_rate` (rejected) and how many, `n`.
        attacked: A dict for each size: the `suite` of attacks of which the worst case counts for each sample, their
            `steps`, `norm`, `epsilon`, `robust_accuracy` (right or rejected), the share that each attack was first to break
            (`broken_by`), the mean number of `passes`, how many samples, `n`, and which of them `withstood`, a bit each in hex;
            `changes` where the attacker may change a part of a sample alone.
        file: The weights beside the card; None for a model that its recipe has to train.
        bytes, sha256: Of that file.
        licence: Of the weights.
        classes: Their names, in the order of the scores.
        ood: The share of each OOD set that is `rejected`, and of how many images, `n`; empty where none was tried.
        unfamiliar: Of pictures with depth, the share that passes of each kind of forgery that the model has not seen.
        body: Name of a plain network whose weights the file leaves out: `load` puts them in. None: the file has all.
        commit, versions: Of the code that fitted the defense and measured the model; an older one may have trained the network.
    """

    name: str
    summary: str
    architecture: str
    defense: str
    recipe: str
    data: str
    bounds: tuple
    clean: dict
    attacked: builtins.list
    golden: dict
    file: str | None
    bytes: int
    sha256: str
    licence: str
    commit: str
    versions: dict
    classes: builtins.list = field(default_factory=builtins.list)
    ood: dict = field(default_factory=dict)
    unfamiliar: dict = field(default_factory=dict)
    body: str | None = None


def networks() -> builtins.list[str]:
    """The names of the plain classifiers that `load` gives, as a list; they have no defense and no card.

    Example:

    >>> networks()
    ['imagenet_lite0']
    """
    return [imagenet.NAME]


def list(*, cards: PathLike | None = None) -> builtins.list[str]:
    """The names of all defended models, as a list.

    Args:
        cards: Another directory of cards.

    Example:

    >>> "digits_cnn.dnr" in list()
    True
    """
    return sorted(path.stem for path in Path(cards or CARDS).glob("*.json"))


def card(name: str, *, cards: PathLike | None = None) -> Card:
    """The card of a model; an unknown name suggests the nearest.

    Args:
        name: One of `td.zoo.list()`.
        cards: Another directory of cards.

    Example:

    >>> card("digits_cnn.dnr").data
    'digits'
    """
    path = Path(cards or CARDS) / f"{name}.json"
    known = list(cards=cards)
    if name in networks():
        raise ValueError(
            f"'{name}' is a plain network, without a defense, so it has no card. Attach one: "
            f"`td.ThresholdDefense(\"energy\").attach(td.zoo.load('{name}'), class_names=td.zoo.class_names('{name}'))`."
        )
    if name not in known and name in MADE_BY_PROTOCOL:
        make = f"python -m evaluation zoo --dataset {MADE_BY_PROTOCOL[name]} --only {name} --fit"
        raise ValueError(f"This version comes without '{name}', which is not made yet. Make it in a clone: `{make}`.")
    if name not in known:
        known = [*known, *networks()]
        hint = did_you_mean(name, [*known, *MADE_BY_PROTOCOL])
        raise ValueError(f"A model of the zoo is one of {', '.join(known) or '(none)'}. Received {name!r}.{hint}")
    return _read(path)


def _read(path):
    """A card, each of whose fields is what `Card` says that it is."""
    content = read_json(path)
    fields = {field.name: field for field in dataclasses.fields(Card)}
    kinds = typing.get_type_hints(Card)
    wrong = [f"{name} is missing" for name, field in fields.items() if name not in content and _is_needed(field)]
    wrong += [f"{name[:60]!r} is unknown" for name in content if name not in fields]
    if wrong:
        raise ValueError(f"{path} is no card of a model: {', '.join(wrong[:5])}. Install tfdefense anew.")
    for name, value in content.items():
        kind = kinds[name]
        if isinstance(value, builtins.list) and tuple in (kind, *typing.get_args(kind)):
            content[name] = value = tuple(value)
        _check(path, name, value, isinstance(value, kind) and not isinstance(value, bool))
    _check(path, "name", content["name"], content["name"] == path.stem)
    _check(path, "file", content["file"], content["file"] is None or Path(content["file"]).name == content["file"])
    _check(path, "body", content.get("body"), content.get("body") in (None, *networks()))
    _check(path, "bounds", content["bounds"], len(content["bounds"]) == 2 and all(map(_is_number, content["bounds"])))
    _check(path, "clean", content["clean"], _has_numbers(content["clean"], ("accuracy", "false_positive_rate", "n")))
    rows = content["attacked"]
    right = all(isinstance(row, dict) and _has_numbers(row, ("steps", "epsilon", "robust_accuracy", "n")) for row in rows)
    texts = right and all(isinstance(row.get(key), str) for row in rows for key in ("suite", "norm"))
    _check(path, "attacked", rows, bool(rows) and texts)
    return Card(**content)


def _is_needed(field):
    return field.default is field.default_factory is dataclasses.MISSING


def _check(path, name, value, right):
    if not right:
        shown = str(value)[:60]
        raise ValueError(f"{path} is damaged: its field {name} can't be {shown!r}. Install tfdefense anew.")


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _has_numbers(row, names):
    return all(_is_number(row.get(name)) for name in names)


def load(name: str, *, cards: PathLike | None = None) -> Model:
    """The defended model of that name, or the plain network.

    Args:
        name: One of `td.zoo.list()` or `td.zoo.networks()`.
        cards: Another directory of cards.

    Example:

    >>> model = load("digits_cnn.dnr")
    >>> sorted(model.output)
    ['label', 'scores', 'suspicion']
    """
    from tfdefense import contract

    if name in networks():
        return imagenet.load()
    path, about = weights(name, cards=cards), card(name, cards=cards)
    model = contract.load(path) if about.body is None else _with_body(path)
    # Files of earlier versions have no names: the card does.
    if about.classes and contract.class_names(model) is None:
        contract.name_classes(model, about.classes)
    return model


def _with_body(path):
    """A file that holds head and defense, with the body put in."""
    from tfdefense import contract

    imagenet.weights_file()  # Whoever lacks the package is told before anything is built.
    model = contract.read(path)
    imagenet.fill(model)
    contract.check_sound(model)
    return contract.as_defended(model)


def available(name: str, *, cards: PathLike | None = None) -> bool:
    """Whether `load(name)` finds its weights: some come with a package of their own, some are too large to be shipped.

    Example:

    >>> available("digits_cnn.dnr")
    True

    Args:
        name: One of `td.zoo.list()` or `td.zoo.networks()`.
        cards: Another directory of cards.
    """
    if name in networks():
        return imagenet.available()
    about = card(name, cards=cards)
    return about.file is not None and (about.body is None or imagenet.available())


def class_names(name: str, *, cards: PathLike | None = None) -> tuple[str, ...]:
    """Names of the classes of a model or a plain network in the order of its scores, as a tuple.

    Example:

    >>> class_names("imagenet_lite0")[574]
    'golf ball'

    Args:
        name: One of `td.zoo.list()` or `td.zoo.networks()`.
        cards: Another directory of cards.
    """
    return imagenet.class_names() if name in networks() else tuple(card(name, cards=cards).classes)


def weights(name: str, *, cards: PathLike | None = None) -> Path:
    """The path of a model's weights, checked against its card.

    Args:
        name: One of `td.zoo.list()`.
        cards: Another directory of cards.

    Example:

    >>> weights("digits_cnn.dnr").name
    'digits_cnn.dnr.keras'
    """
    about = card(name, cards=cards)
    if about.file is None:
        make = f"python -m evaluation zoo --dataset {about.data} --only {name}"
        raise ValueError(
            f"The weights of '{name}' are too large to be shipped. Make them in a clone: `{make}` writes "
            f"evaluation/runs/zoo/{name}.keras, which `td.load` opens."
        )
    path = Path(cards or CARDS) / about.file
    if not path.exists():
        raise ValueError(f"Expected the weights of '{name}' at {path}. They are missing: install tfdefense anew.")
    found = hashlib.sha256(check_file(path).read_bytes()).hexdigest()
    if found != about.sha256:
        raise ValueError(
            f"Expected the weights of '{name}' with the sha256 {about.sha256[:12]}... Received {path} with {found[:12]}... "
            "The file is damaged or was changed: install tfdefense anew."
        )
    return path


def probe(input_shape: Sequence[int], bounds: tuple[float, float] = (0.0, 1.0)) -> np.ndarray:
    """Four images that need no data set, the same on every machine.

    Args:
        input_shape: Shape of one image.
        bounds: Lowest and highest pixel value.

    Example:

    >>> probe((8, 8, 1)).shape
    (4, 8, 8, 1)
    """
    import numpy as np

    low, high = bounds
    images = np.random.default_rng(0).uniform(low, high, (4, *input_shape)).astype("float32")
    images[0] = low
    return images
