"""Models and data from paths and names."""

import os
from pathlib import Path

from tfdefense._progress import quiet
from tfdefense._suggest import did_you_mean
from tfdefense._untrusted import check_file, check_format, check_keras_file, check_saved_model, readable
from tfdefense.cli._options import class_list


def load_model(path, sound=True):
    """A Keras model from a `.keras` file, or a SavedModel from its directory.

    Args:
        path: Where it lies.
        sound: Whether a defended `.keras` file is refused where a weight or a threshold is not finite, as `td.load` refuses it.
    """
    path = Path(path)
    _check_model(path)
    _start_tensorflow()
    if path.is_dir():
        import tensorflow as tf

        with readable(path, "a SavedModel"), quiet():
            return tf.saved_model.load(str(path))
    from tfdefense.contract import as_defended, check_sound, is_defended, read

    with quiet():
        model = read(path)
    if not is_defended(model):
        return model
    if sound:
        check_sound(model)
    return as_defended(model)


def _check_model(path):
    if not path.exists():
        beside = [other.name for other in path.parent.glob("*")]
        raise FileNotFoundError(f"There is no model {path}.{did_you_mean(path.name, beside)}")
    if path.is_file():
        check_format(path)
    if path.is_dir():
        check_saved_model(path)
    elif check_file(path).suffix != ".keras":
        raise ValueError(f"Expected a .keras file or a SavedModel directory. Received: {path}.")
    else:
        check_keras_file(path)


def _start_tensorflow():
    """Seconds of work: done once what can be checked without it has been checked."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with quiet():
        import tensorflow as tf

        # The search for a GPU is what talks; it happens at the first use otherwise.
        tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


def load_keras(path, what):
    loaded = load_model(path)
    import keras

    if not isinstance(loaded, keras.Model):
        raise ValueError(f"{path} is a SavedModel, which can't be {what} any more. Give the .keras file that it was made from.")
    return loaded


def load_data(model, name, split, samples, bounds, classes, *, labels=True, seed=0, data_dir=None, download=False):
    """Images by name or path, with their values moved into the bounds of a model and their classes numbered as its are."""
    from tfdefense.data.for_model import load_for

    options = {"limit": samples, "seed": seed, "labels": labels, "data_dir": data_dir, "download": download}
    bounds = bounds_for(model, bounds)
    return load_for(model, name, split, classes=class_list(classes), **options).moved(bounds)


def held_out_part(name, split):
    """The part that was asked for; else all of somebody's own data that has no parts itself, and the test part of any other."""
    from tfdefense.data.own import has_splits

    path = Path(name)
    return split or ("all" if path.exists() and not has_splits(path) else "test")


def training_part(name):
    """All of somebody's own data, and the training part of any other."""
    return "all" if Path(name).exists() else "train"


def bounds_for(model, bounds):
    """The bounds of a defended model, or those given, or (0, 1)."""
    from tfdefense._validation import is_bounded
    from tfdefense.view import View

    found = View.of(model, bounds).bounds
    if not is_bounded(found):
        raise ValueError(
            "This model takes any finite number (`bounds=None`), so data has no range to be scaled to. Give one where the "
            "command has --bounds, such as --bounds -3 3, or work in Python, on samples as they are: `td.calibrate(model, x)`."
        )
    return found
