"""Samples of no class for recipes that name them: foreign sets, and samples between the classes."""

import numpy as np

from tfdefense import data
from tfdefense.metrics import harmless
from training.keep import write_whole
from training.recipe import source


def extended(recipe, x, y, work, *, data_dir=None, cache=None):
    """The training set with the recipe's dustbin samples behind it, labelled with one class more."""
    outside = _kept(work / "dustbin.npy", lambda: _samples(recipe, x, y, data_dir, cache))
    # Filled in place: joining the parts at once would hold the training set twice.
    all_x = np.empty((len(x) + len(outside), *x.shape[1:]), x.dtype)
    all_x[: len(x)], all_x[len(x) :] = x, outside
    return all_x, np.concatenate([y, np.full(len(outside), y.max() + 1, y.dtype)])


def _kept(path, make):
    """An interrupted run goes on with the very same samples, and need not look for neighbours again."""
    if not path.exists():
        samples = make()
        write_whole(path, lambda new: np.save(new, samples))
    return np.load(path)


def _samples(recipe, x, y, data_dir, cache):
    parts = [_part(part, x, y, data_dir, cache) for part in recipe.dustbin]
    for part, samples in zip(recipe.dustbin, parts, strict=True):
        if samples.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"`dustbin` must name images like those of '{recipe.dataset}', of shape {x.shape[1:]}. "
                f"Received {part} with shape {samples.shape[1:]}. Name a set of that shape."
            )
    return np.concatenate(parts)


def _part(part, x, y, data_dir, cache):
    options = {name: value for name, value in part.items() if name not in ("set", "interpolated", "settings")}
    if "set" in part:
        return data.load(part["set"], "train", data_dir=data_dir, **options).x
    import keras

    from training.cache import train

    # Where several processes train together, each comes here, and the first of them trains for all.
    settings = {"data_dir": data_dir, "cache": cache, "strategy": "one", **part.get("settings", {})}
    network = keras.models.load_model(train(source(part).name, **settings) / "model.keras", compile=False)
    return data.interpolate(x, y, network, **options).x


def varied(x, largest, rng):
    """Half of the images changed in harmless ways, each in one of them, by sizes up to the largest: their class stays."""
    kinds = sorted(largest)
    chosen = rng.integers(-len(kinds), len(kinds), len(x))
    x = x.copy()
    for number, kind in enumerate(kinds):
        rows, size, seed = np.flatnonzero(chosen == number), largest[kind], int(rng.integers(2**31))
        size = int(rng.integers(1, size + 1)) if kind == "shift" else float(rng.uniform(0, size))
        if len(rows):
            x[rows] = harmless(x[rows], size, kind, seed=seed)
    return x
