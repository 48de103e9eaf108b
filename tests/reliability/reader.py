"""A process of its own that reads what may be malformed: one that ends or hangs takes no test with it.

Reads lines of JSON, [kind, path], and answers each with one line: the type of the error and what it says, or what was read.
"""

import hashlib
import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np

from tfdefense import _cache, data, zoo
from tfdefense.cli._inputs import load_model
from tfdefense.data.camera import read_pair


def _model(path):
    import tfdefense as td

    return td.load(path / "model.keras").get_weights()


def _saved_model(path):
    return [variable.numpy() for variable in load_model(path / "saved").weights]


def _cached(path):
    """What `_cache` gives in place of a damaged batch: the batch made again, with a warning that names the file."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        (batch,) = _cache.batches(path, lambda number: {"x": np.arange(4.0)}, 1, names=["x"])
    if told:
        raise ValueError(str(told[0].message))
    return list(batch.values())


def _images(images):
    return [images.x, images.y, np.array(images.classes)]


READ = {
    "npz": lambda path: _images(data.load(path / "mine.npz", "all")),
    "folder": lambda path: _images(data.load(path, "all")),
    "tfds": lambda path: _images(data.load("mnist", "all", data_dir=path)),
    "notmnist": lambda path: _images(data.load("notmnist", "all", data_dir=path)),
    "keras": _model,
    "command's keras": lambda path: load_model(path / "model.keras").get_weights(),
    "SavedModel": _saved_model,
    "scene": lambda path: read_pair(path / "image.png", path / "depth.png"),
    "card": lambda path: [np.array(str(zoo.card("some.model", cards=path)))],
    "cached": _cached,
}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What TensorFlow prints is no answer.
    for line in sys.stdin:
        kind, path = json.loads(line)
        try:
            read = READ[kind](Path(path))
            answer = {"read": hashlib.sha256(b"".join(np.asarray(array).tobytes() for array in read)).hexdigest()}
        except Exception as error:
            answer = {"error": type(error).__name__, "foreseen": isinstance(error, ValueError | OSError), "said": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
