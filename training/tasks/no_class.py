"""Samples of no class for recipes that name them: out-of-distribution sets, and samples between the classes."""

import keras
import numpy as np

from tfdefense import data
from tfdefense._files import write_file
from training.recipe import source


def extended(recipe, x, y, classes, work, *, trained, data_dir=None):
    """The training set with the recipe's dustbin samples behind it, labelled with the number after the last class.

    `classes` counts those of the whole set: the samples taken of it may lack the last ones.
    """
    outside = _kept(work / "dustbin.npy", lambda: _samples(recipe, x, y, trained, data_dir))
    return np.concatenate([x, outside]), np.concatenate([y, np.full(len(outside), classes, y.dtype)])


def _kept(path, make):
    """An interrupted run goes on with the very same samples, and need not look for neighbours again."""
    if not path.exists():
        samples = make()
        write_file(path, lambda new: np.save(new, samples))
    return np.load(path)


def _samples(recipe, x, y, trained, data_dir):
    parts = [_part(part, x, y, trained, data_dir) for part in recipe.dustbin]
    for part, samples in zip(recipe.dustbin, parts, strict=True):
        if samples.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"`dustbin` must name images like those of '{recipe.dataset}', of shape {x.shape[1:]}. "
                f"Received {part} with shape {samples.shape[1:]}. Name a set of that shape."
            )
    return np.concatenate(parts)


def _part(part, x, y, trained, data_dir):
    options = {name: value for name, value in part.items() if name not in ("set", "interpolated", "settings")}
    if "set" in part:
        return data.load(part["set"], "train", data_dir=data_dir, **options).x
    path = trained(source(part).name, **part.get("settings", {}))
    network = keras.models.load_model(path / "model.keras", compile=False)
    return data.interpolate(x, y, network, **options).x
