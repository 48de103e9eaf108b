from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._validation import Tensor, check_labels
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.finite import unless_finite
from tfdefense.layers.scores.bandwidth import equal_shares, likeliest_sigma

BLOCK = 2048
# Stands for log 0 inside the sums, where -inf minus -inf would be NaN.
_NONE = -1e30


@keras.saving.register_keras_serializable(package="tfdefense")
class KernelDensity(AdaptableLayer):
    """The score K-density: minus the log of the Gaussian kernel density of the predicted class, in a hidden layer.

    The density is the mean of exp(-||z - z_i||^2 / sigma^2) over the stored points z_i of that class. It is summed in logs,
    so that it goes on far from all points, and block by block, so that memory does not grow with the points. Differentiable
    (once); the attacker's gradient is exact. A class without points has density 0: its score is +inf, which is rejected, as
    is everything before `adapt`.

    Args:
        sigma: Bandwidth, in the units of the features. "auto" chooses the likeliest in `adapt`, leaving out one point at a time,
            and keeps it in a weight. The paper has sigma^2 = 1 / 0.26 after cross-entropy and 0.1 / 0.26 after reverse
            cross-entropy, on its own networks. scikit-learn's `bandwidth` is sigma / sqrt(2).
        max_points: Room for points. With as much room as training samples the density is exact; with less, each class keeps
            an equal share of the room, drawn at random, and `capping_error` tells the difference. The room is taken when
            the layer is built, whatever is stored, so that weights keep their shape in files and compiled functions.
        seed: Of that draw, and of the points that the bandwidth is chosen by.

    Call arguments:
        features: What a hidden layer gives; flattened.
        scores: Class scores; the largest is the predicted class.

    Example:

    >>> layer = KernelDensity(sigma=1.0)
    >>> layer.adapt(np.array([[0.0], [2.0]]), np.array([0, 1]))
    >>> float(layer(np.array([[1.0]]), np.array([[0.1, 0.9]]))[0])
    1.0

    Reference: Feinman et al., 2017, Detecting adversarial samples from artifacts; Pang et al., 2018.
    """

    def __init__(self, sigma: float | str = "auto", max_points: int = 10_000, seed: int = 0, **kwargs: Any):
        # Differences of large squares: float16 would lose the density.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.sigma = _checked_sigma(sigma)
        if not isinstance(max_points, int | np.integer) or max_points < 2:
            raise ValueError(
                f"`max_points` must be a whole number of at least 2. Received: {max_points!r}. "
                "For the exact density pass the number of training samples."
            )
        self.max_points = int(max_points)
        self.seed = seed

    def build(self, features_shape, scores_shape=None):
        width = _width(features_shape)
        block = min(BLOCK, self.max_points)
        blocks = -(-self.max_points // block)

        def state(name, shape, dtype="float32"):
            return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False, dtype=dtype)

        super().build(features_shape)
        self.points = state("points", (blocks, block, width))
        # The class of each point, counted from 1: 0 marks free room.
        self.owners = state("owners", (blocks, block), "int32")
        self.log_shares = state("log_shares", (blocks, block))
        # Points are kept relative to their mean: |a|^2 + |b|^2 - 2ab loses the digits of whatever all have in common.
        self.center = state("center", (width,))
        self.used = state("used", (), "int32")
        # A number has no weight of its own: files that were written with one keep fitting.
        if self.sigma == "auto":
            self._chosen = self.add_weight(name="sigma", shape=(), initializer="ones", trainable=False, dtype="float32")

    @property
    def current_sigma(self) -> Tensor:
        """The bandwidth in use: the number given, or the one that `adapt` chose."""
        return ops.convert_to_tensor(self._chosen) if self.sigma == "auto" else self.sigma

    def call(self, features, scores):
        # top_k instead of argmax: ONNX and LiteRT converters fail on argmax of floats.
        self._check_width(_width(features.shape))
        predicted = ops.cast(ops.top_k(scores, 1)[1][:, 0], "int32")
        features = ops.reshape(features, (-1, self.points.shape[-1])) - self.center
        stored = (self.points, self.owners, self.log_shares)
        value, slope = _log_density(ops.stop_gradient(features), predicted + 1, *stored, self.used, self.current_sigma)
        # A loop's own gradient would keep every block in memory. The slope is known in closed form, so only a term that is
        # 0 and has this slope is left for the gradient.
        moved = ops.sum(slope * (features - ops.stop_gradient(features)), axis=-1)
        return unless_finite(-(value + moved), features)

    def compute_output_shape(self, features_shape, scores_shape=None):
        return features_shape[:1]

    def adapt(self, features: Sequence[ArrayLike], labels: ArrayLike) -> None:
        """Stores the training points.

        Args:
            features: Array of shape (samples, ...), or the pair (features, scores) that the layer is called with.
            labels: Class of each, whole numbers.
        """
        scores = None
        if isinstance(features, list | tuple) and len(features) == 2 and all(np.ndim(part) > 1 for part in features):
            features, scores = features
        features, labels = _checked(features, labels, None if scores is None else np.shape(scores)[-1])
        if not self.built:
            self.build(features.shape)
        self._check_width(features.shape[1])
        if self.max_points < len(np.unique(labels)):
            raise ValueError(f"`max_points` must be at least the {len(np.unique(labels))} classes. Received: {self.max_points}.")
        if self.sigma == "auto":
            self._chosen.assign(self._likeliest(features, labels))
        kept = equal_shares(labels, self.max_points, self.seed)
        if len(kept) < len(labels):
            warnings.warn(
                f"Layer '{self.name}' stores {len(kept):,} of {len(labels):,} training points, an equal share of each class. "
                f"`td.capping_error` tells what the others would change; `max_points={len(labels)}` stores all.",
                UserWarning,
                stacklevel=3,
            )
        center = features.mean(axis=0)
        for weight, value in zip(self._state(), _blocks(features[kept], labels[kept], center, self.points.shape[:2]), strict=True):
            weight.assign(value)
        self.mark_adapted()

    def _likeliest(self, features, labels):
        found = likeliest_sigma(features, labels, self.seed)
        if found is None:
            raise ValueError(
                f"Layer '{self.name}' can't choose its bandwidth: no two training samples of a class differ in the features that "
                "it watches. Watch another layer, or give `sigma=` a number."
            )
        return _checked_sigma(found)

    def capping_error(self, features: ArrayLike, labels: ArrayLike, probes: np.ndarray, classes: ArrayLike) -> np.ndarray:
        """Log density with the stored points minus that with all of them: zeros when none were left out.

        Args:
            features, labels: The training points that `adapt` was given.
            probes: Features at which to compare, of samples that are not among the training points.
            classes: Their predicted classes.

        Returns:
            One difference for each probe; NaN where the class has no points.
        """
        if not self.adapted:
            raise ValueError(f"Layer '{self.name}' holds no points yet. Call `adapt(features, labels)` first.")
        features, labels = _checked(features, labels)
        probes = np.asarray(probes, "float32").reshape(len(probes), -1)
        self._check_width(features.shape[1])
        self._check_width(probes.shape[1])
        classes = np.asarray(classes, "int32") + 1
        blocks = -(-len(features) // BLOCK)
        points, owners, log_shares, center, used = _blocks(features, labels, features.mean(axis=0), (blocks, BLOCK))
        exact = _log_density(probes - center, classes, points, owners, log_shares, used, self.current_sigma)[0]
        stored = (self.points, self.owners, self.log_shares, self.used, self.current_sigma)
        capped = _log_density(probes - ops.convert_to_numpy(self.center), classes, *stored)[0]
        with np.errstate(invalid="ignore"):
            return ops.convert_to_numpy(capped) - ops.convert_to_numpy(exact)

    def _check_width(self, width):
        if width != self.points.shape[-1]:
            raise ValueError(f"Layer '{self.name}' is built for features of width {self.points.shape[-1]}. Received width {width}.")

    def _state(self):
        return self.points, self.owners, self.log_shares, self.center, self.used

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "max_points": self.max_points, "seed": self.seed}


def _log_density(features, owner, points, owners, log_shares, used, sigma):
    """The log density of each row among the points of its own class, and the slope of that."""
    square = ops.sum(ops.square(features), axis=-1, keepdims=True)

    def add(index, state):
        best, total, mean = state
        block = ops.take(points, index, axis=0)
        distance = square + ops.sum(ops.square(block), axis=-1) - 2 * ops.matmul(features, ops.transpose(block))
        term = ops.take(log_shares, index, axis=0) - ops.maximum(distance, 0.0) / sigma**2
        same = ops.expand_dims(owner, -1) == ops.take(owners, index, axis=0)
        term = ops.where(same, term, ops.full_like(term, _NONE))
        new = ops.maximum(best, ops.max(term, axis=-1))
        # Where no point of the class was met yet, all that is summed is exp(_NONE) = 0.
        shift = ops.where(new <= _NONE, ops.zeros_like(new), new)
        kernel = ops.exp(term - ops.expand_dims(shift, -1))
        old = ops.exp(best - shift)
        return (
            new,
            total * old + ops.sum(kernel, axis=-1),
            mean * ops.expand_dims(old, -1) + ops.matmul(kernel, block),
        )

    nothing = ops.zeros_like(features[:, 0])
    start = (nothing + _NONE, nothing, ops.zeros_like(features))
    if points.shape[0] == 1:
        best, total, mean = add(0, start)
    else:
        # A variable is no bound of a loop under JAX.
        best, total, mean = ops.fori_loop(0, ops.convert_to_tensor(used), add, start)
    # Nothing met: log 0 gives the -inf. `where` could not, as the ONNX converter writes it as a product with infinity.
    value = best + ops.log(total)
    mean = mean / ops.expand_dims(ops.maximum(total, 1e-30), -1)
    met = ops.expand_dims(ops.cast(total > 0, total.dtype), -1)
    slope = -2 / sigma**2 * (features - mean) * met
    return ops.stop_gradient(value), ops.stop_gradient(slope)


def _checked_sigma(sigma):
    if isinstance(sigma, str) and sigma == "auto":
        return sigma
    number = isinstance(sigma, int | float | np.integer | np.floating) and not isinstance(sigma, bool)
    if not number or not 0 < sigma < float("inf"):
        raise ValueError(f"`sigma` must be a finite number above 0. Received: {sigma!r}. 'auto' chooses one in `adapt`.")
    if not 1e-37 < float(sigma) ** 2 < 1e38:
        raise ValueError(f"`sigma` must have a square that float32 can hold. Received: {sigma!r}. Rescale the features.")
    return float(sigma)


def _width(shape):
    if len(shape) < 2 or any(size is None for size in shape[1:]):
        raise ValueError(
            f"`features` must have one fixed width, shape (batch, width). Received shape {tuple(shape)}. "
            "Choose a layer behind pooling, such as the input of the last Dense layer."
        )
    return int(np.prod(shape[1:]))


def _checked(features, labels, classes=None):
    """Features as float32 rows, labels as int32; or what is wrong with them."""
    try:
        features = np.asarray(features, "float32")
    except ValueError:
        raise ValueError("`features` must all have one width. Received rows that differ.") from None
    if not len(features):
        raise ValueError("Expected training samples of at least 2 classes. Received no samples.")
    features = features.reshape(len(features), -1)
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite. Received NaN or infinity: check the samples and the network.")
    labels = check_labels(labels, "labels", samples=len(features), classes=classes)
    found = np.unique(labels)
    if len(found) < 2:
        raise ValueError(f"Expected training samples of at least 2 classes. Received {found.tolist()} alone.")
    return features, labels.astype("int32")


def _blocks(features, labels, center, shape):
    """What the layer stores: points, their classes, minus the log of how many share the class, center, blocks in use."""
    sizes = np.bincount(labels)
    room = shape[0] * shape[1]

    def filled(values, dtype):
        whole = np.zeros((room, *values.shape[1:]), dtype)
        whole[: len(values)] = values
        return whole.reshape(*shape, *values.shape[1:])

    used = -(-len(features) // shape[1])
    points = filled(features - center, "float32")
    return points, filled(labels + 1, "int32"), filled(-np.log(sizes[labels]), "float32"), center, np.int32(used)
