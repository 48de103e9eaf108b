"""What detector scores share whose state comes from training samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from tfdefense._validation import check_labels
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.finite import unless_finite

# What a weight takes up and how it is written into the configuration: its type and its shape.
Form = tuple[str, Sequence[Any]]


class FittedScore(AdaptableLayer):
    """A layer whose state is fitted to training samples, which alone tell how large it is. Before `adapt` all is rejected.

    A subclass says in `blank` what it holds before that, writes `call` and `adapt`, and sets its state by `keep`. Attributes:
        takes: What the layer is called with: "features", "scores" or both, in this order.

    Args:
        forms: Of files: types and shapes of what the layer holds by now.
    """

    takes: tuple[str, ...]

    def __init__(self, forms: Mapping[str, Form] | None = None, **kwargs: Any):
        # Small differences of large numbers: float16 would lose them.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.forms = {name: (kind, tuple(shape)) for name, (kind, shape) in (forms or {}).items()}

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        """Shapes of what the layer holds, by name, before it is adapted."""
        raise NotImplementedError

    def _build(self, features_shape, scores_shape=(None,)):
        super().build(features_shape)
        blank = self.blank(_width(features_shape), scores_shape[-1])
        self.forms = {name: ("float32", tuple(shape)) for name, shape in blank.items()} | self.forms
        self._make()

    def _make(self):
        self.held = {}
        for name, (kind, shape) in self.forms.items():
            self.held[name] = self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False, dtype=kind)

    def keep(self, **state: np.ndarray) -> None:
        """Stores the state. Keras's variables keep their shape, so there are new ones where that is another."""
        forms = {name: (value.dtype.name, value.shape) for name, value in state.items()}
        if forms != self.forms:
            locked = self._tracker.locked
            self._tracker.unlock()
            for old in self.held.values():
                self._untrack_variable(old)
            self.forms = forms
            self._make()
            if locked:
                self._tracker.lock()
        for name, value in state.items():
            self.held[name].assign(value)
        self.mark_adapted()

    @property
    def memory(self) -> int:
        """Bytes of what the layer holds."""
        return sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in self.forms.values())

    def until_adapted(self, values, features):
        """The values; NaN or infinity for samples whose features are no numbers, and for all before `adapt`."""
        # Log 1 is 0, minus log 0 is +inf: `where` may be written as a product with infinity.
        return unless_finite(values, features) - ops.log(ops.convert_to_tensor(self._adapted))

    def get_config(self):
        forms = {name: [kind, list(shape)] for name, (kind, shape) in self.forms.items()} if self.adapted else None
        return {**super().get_config(), "forms": forms}


class SingleScore(FittedScore):
    """A fitted score that is called with features, or with class scores."""

    takes = ("features",)

    def build(self, features_shape):
        self._build(features_shape)

    def compute_output_shape(self, features_shape):
        return features_shape[:1]


class PairScore(FittedScore):
    """A fitted score that is called with features and class scores."""

    takes = ("features", "scores")

    def build(self, features_shape, scores_shape=(None,)):
        # Keras goes by the names of arguments.
        self._build(features_shape, scores_shape)

    def compute_output_shape(self, features_shape, scores_shape):
        return features_shape[:1]


def _width(shape):
    if len(shape) < 2 or shape[-1] is None:
        raise ValueError(
            f"Expected features of a known width, shape (batch, ..., width). Received shape {tuple(shape)}. "
            "Choose a layer behind pooling, such as the input of the last Dense layer."
        )
    return int(shape[-1])


def pooled(features):
    """One row of features a sample: feature maps are averaged over all places."""
    between = tuple(range(1, len(features.shape) - 1))
    return ops.mean(features, axis=between) if between else features


def checked_features(features, labels, least=1, name="features"):
    """Rows of features, and their classes, as arrays in float64 and int32; or what is wrong with them."""
    features = np.asarray(features)
    if features.ndim < 2 or features.dtype.kind not in "fiub":
        raise ValueError(
            f"`{name}` must be numbers of shape (samples, ..., width). Received {features.dtype} of shape {features.shape}."
        )
    features = features.mean(axis=tuple(range(1, features.ndim - 1)), dtype="float64")
    if len(features) < least:
        raise ValueError(f"Expected at least {least} training samples. Received {len(features)}.")
    if not np.isfinite(features).all():
        raise ValueError(f"`{name}` must be finite. Received NaN or infinity: check the samples and the network.")
    return features, check_labels(labels, "labels", samples=len(features)).astype("int32")


def length(rows):
    """The l2 length of each row, with a gradient at 0 too."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1), 1e-12))


def nearest(rows, points, offsets, k=1):
    """The place of the k-th nearest point to each row, by their squared distance plus an offset of each point.

    Whoever goes on from that point has exact distances and gradients; the products that are compared lose digits.
    """
    nearness = 2.0 * ops.matmul(rows, ops.transpose(points)) - offsets
    return ops.top_k(ops.stop_gradient(nearness), k)[1][:, k - 1]
