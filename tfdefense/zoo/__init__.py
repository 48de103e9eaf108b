"""Models that are defended already. Each has a card, a JSON file that says what it is and how long it holds against whom.

`td.zoo.list()` names them, `td.zoo.load("digits_cnn.dnr")` gives the model, checked against the card. The cards are written
by `python -m evaluation zoo`, from measurements alone.
"""

import builtins
import difflib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

CARDS = Path(__file__).parent


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
        clean: Accuracy and rejection on unchanged test samples, and how many.
        attacked: Rows of attack, norm, size, `not_fooled` (the share right or rejected) and samples.
        golden: Scores and suspicions for `probe(input_shape)`: the model that loads is the one that was measured.
        file: The weights beside the card; None for a model that its recipe has to train.
        bytes, sha256: Of that file.
        licence: Of the weights.
        classes: Their names, in the order of the scores.
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


def list(*, cards=None):
    """The names of all models, as a list."""
    return sorted(path.stem for path in Path(cards or CARDS).glob("*.json"))


def card(name, *, cards=None):
    """The card of a model; an unknown name suggests the nearest."""
    path = Path(cards or CARDS) / f"{name}.json"
    known = list(cards=cards)
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        raise ValueError(f"A model of the zoo is one of {', '.join(known) or '(none)'}. Received {name!r}.{hint}")
    return Card(**json.loads(path.read_text()))


def load(name, *, cards=None):
    """The defended model of that name.

    Args:
        name: One of `td.zoo.list()`.
        cards: Another directory of cards.

    Example:

    >>> model = load("digits_cnn.dnr")
    >>> sorted(model.output)
    ['label', 'scores', 'suspicion']
    """
    from tfdefense.contract import class_names, name_classes
    from tfdefense.contract import load as load_defended

    model, names = load_defended(weights(name, cards=cards)), card(name, cards=cards).classes
    # Files of earlier versions have no names: the card does.
    if names and class_names(model) is None:
        name_classes(model, names)
    return model


def weights(name, *, cards=None):
    """The path of a model's weights, which are those that its card speaks of."""
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
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != about.sha256:
        raise ValueError(
            f"Expected the weights of '{name}' with the sha256 {about.sha256[:12]}... Received {path} with {found[:12]}... "
            "The file is damaged or was changed: install tfdefense anew."
        )
    return path


def probe(input_shape, bounds=(0.0, 1.0)):
    """Four images that no data set is needed for: the same on every machine."""
    import numpy as np

    low, high = bounds
    images = np.random.default_rng(0).uniform(low, high, (4, *input_shape)).astype("float32")
    images[0] = low
    return images
