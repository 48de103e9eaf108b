"""Samples between the classes, for the dustbin of out-distribution learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Model
from tfdefense.data.images import balanced_order


class Interpolated(NamedTuple):
    """`x[i]` lies between the samples `sources[i]` and `neighbours[i]`, which are of two classes."""

    x: np.ndarray
    sources: np.ndarray
    neighbours: np.ndarray


def interpolate(
    x: ArrayLike,
    y: ArrayLike,
    features: ArrayLike | Model | Callable[[np.ndarray], ArrayLike],
    alpha: float = 0.5,
    per_class: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> Interpolated:
    """Blends samples with their nearest neighbour of another class: `alpha * I_a + (1 - alpha) * I_b`.

    Args:
        x: Samples, (N, ...).
        y: Their classes, integers, (N,).
        features: Where neighbours are sought: an array (N, ...); or a Keras classifier, whose penultimate layer is
            taken, that is the input of its last Dense layer; or any other function from a batch of `x` to features
            (for the outputs of a Keras model that is a feature extractor, pass `extractor.predict_on_batch`).
        alpha: Share of the source sample, in (0, 1).
        per_class: How many source samples a class gives at most. None: all of them.
        limit: How many samples are made at most, as evenly over the classes as they allow.
        seed: Integer, for the choice of the source samples.
        batch_size: For computing features.

    Returns:
        `Interpolated(x, sources, neighbours)`: the samples, in the type of `x`, and the indices of each one's pair.
        Two samples that are each other's nearest neighbour give two blends, which at alpha 0.5 are equal.

    Example:

    >>> x = np.array([[0.0], [1.0], [4.0]])
    >>> interpolate(x, [0, 0, 1], features=x, alpha=0.5, limit=1, per_class=1).x.shape
    (1, 1)

    Reference: Abbasi et al., 2018, out-distribution learning with a dustbin class.
    """
    x, y = np.asarray(x), np.asarray(y)
    if not len(x) == len(y) or y.ndim != 1:
        raise ValueError(f"`y` must hold one class for each sample. Received: {len(x)} samples, y of shape {y.shape}.")
    if not 0 < alpha < 1:
        raise ValueError(f"`alpha` must lie in (0, 1). Received: alpha={alpha}.")
    for argument, value in (("per_class", per_class), ("limit", limit)):
        if value is not None and value < 1:
            raise ValueError(f"`{argument}` must be 1 or more, or None for all. Received: {argument}={value}.")
    if len(np.unique(y)) < 2:
        raise ValueError(f"`y` must hold two classes or more to go between. Received: only {np.unique(y)}.")

    sources = _choose(y, per_class, limit, seed)
    neighbours = _neighbours(_features(features, x, batch_size), y, sources)
    blended = np.empty((len(sources), *x.shape[1:]), dtype=x.dtype)
    for start in range(0, len(sources), 1000):  # a blend in float of all samples at once would need their size twice
        part = slice(start, start + 1000)
        blend = alpha * x[sources[part]].astype("float32") + (1 - alpha) * x[neighbours[part]].astype("float32")
        blended[part] = np.rint(blend) if np.issubdtype(x.dtype, np.integer) else blend
    return Interpolated(blended, sources, neighbours)


def _choose(y, per_class, limit, seed):
    order = balanced_order(y, seed)
    if per_class is not None:
        first = [order[y[order] == label][:per_class] for label in np.unique(y)]
        order = order[np.isin(order, np.concatenate(first))]
    return order[:limit]


def _neighbours(features, y, sources):
    """For each source the nearest sample of another class."""
    from sklearn.neighbors import NearestNeighbors

    nearest = np.full(len(sources), np.inf)
    neighbours = np.empty(len(sources), dtype=np.int64)
    # One class is indexed at a time and asked by all the others: it is never necessary to copy more than a class.
    for label in np.unique(y):
        members, asking = np.flatnonzero(y == label), np.flatnonzero(y[sources] != label)
        if not len(asking):
            continue
        index = NearestNeighbors(n_neighbors=1).fit(features[members])
        distances, found = index.kneighbors(features[sources[asking]])
        nearer = distances[:, 0] < nearest[asking]
        nearest[asking[nearer]] = distances[nearer, 0]
        neighbours[asking[nearer]] = members[found[nearer, 0]]
    return neighbours


def _features(features, x, batch_size):
    if callable(features):
        function = _penultimate(features) if hasattr(features, "layers") else features
        batches = [x[start : start + batch_size] for start in range(0, len(x), batch_size)]
        features = np.concatenate([np.asarray(function(batch)) for batch in batches])
    features = np.asarray(features)
    if len(features) != len(x):
        raise ValueError(f"`features` must have a row for each of {len(x)} samples. Received: shape={features.shape}.")
    return features.reshape(len(x), -1)


def _penultimate(model):
    """From a batch to the input of the classifier's last Dense layer, in inference mode."""
    import keras

    from tfdefense.graph import before_last_dense

    # `layer.input` will not do: a layer that is used in several models has several inputs.
    if getattr(model, "outputs", None) and len(model.outputs) == 1:
        tensor, _ = before_last_dense(model.outputs[0])
        if tensor is not None:
            return keras.Model(model.inputs, tensor).predict_on_batch
    raise ValueError(
        f"`features` must be a functional or Sequential classifier with one output, made by a Dense layer. Received: "
        f"{type(model).__name__} {model.name!r}. Pass the features as an array, or a function that computes them."
    )
