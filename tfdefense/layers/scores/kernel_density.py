from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._backend import rows
from tfdefense._validation import Tensor, check_labels
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.finite import unless_finite
from tfdefense.layers.scores.bandwidth import equal_shares, likeliest_sigma

BLOCK = 2048
# Points at a time, of all classes together, so that they stay in the processor's cache; at least so many of each. And pairs of
# rows and points, which is what memory holds.
STEPS, LEAST, PAIRS = 2560, 16, 2**22
# Stands for log 0 inside the sums, where -inf minus -inf would be NaN.
_NONE = -1e30


@keras.saving.register_keras_serializable(package="tfdefense")
class KernelDensity(AdaptableLayer):
    """The score K-density: minus the log of the Gaussian kernel density of the predicted class, in a hidden layer.

    The density is the mean of exp(-||z - z_i||^2 / sigma^2) over the stored points z_i of that class. It is summed in logs,
    so that it goes on far from all points, and block by block, so that memory does not grow with the points. Each sample visits
    the points of its predicted class alone. Differentiable (once); the attacker's gradient is exact. A class without points has
    density 0: its score is +inf, which is rejected, as is everything before `adapt`.

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
        points, owners, log_shares = (ops.convert_to_tensor(weight) for weight in (self.points, self.owners, self.log_shares))
        value = _with_slope(features, predicted, scores.shape[-1], points, owners, log_shares, self.current_sigma)
        return unless_finite(-value, features)

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

    def load_own_variables(self, store):
        super().load_own_variables(store)
        # Earlier versions kept points in the order of the training set: right, but slow.
        owners = ops.convert_to_numpy(self.owners).reshape(-1)
        order = np.argsort(np.where(owners > 0, owners, owners.max() + 1), kind="stable")
        if (np.diff(order) < 0).any():
            for weight in (self.points, self.owners, self.log_shares):
                values = ops.convert_to_numpy(weight).reshape(len(owners), -1)
                weight.assign(values[order].reshape(weight.shape))

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
        classes = np.asarray(classes, "int32")
        asked = classes, int(classes.max(initial=0)) + 1
        blocks = -(-len(features) // BLOCK)
        points, owners, log_shares, center, _ = _blocks(features, labels, features.mean(axis=0), (blocks, BLOCK))
        exact = _log_density(probes - center, *asked, points, owners, log_shares, self.current_sigma)[0]
        stored = (self.points, self.owners, self.log_shares, self.current_sigma)
        capped = _log_density(probes - ops.convert_to_numpy(self.center), *asked, *stored)[0]
        with np.errstate(invalid="ignore"):
            return ops.convert_to_numpy(capped) - ops.convert_to_numpy(exact)

    def _check_width(self, width):
        if width != self.points.shape[-1]:
            raise ValueError(f"Layer '{self.name}' is built for features of width {self.points.shape[-1]}. Received width {width}.")

    def _state(self):
        return self.points, self.owners, self.log_shares, self.center, self.used

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "max_points": self.max_points, "seed": self.seed}


def _with_slope(features, owner, classes, points, owners, log_shares, sigma):
    """The log density, whose gradient is its slope in closed form: that of the loop would keep every block in memory."""
    rest = owner, classes, points, owners, log_shares, sigma
    if keras.backend.backend() == "jax":
        # It makes no gradients of functions that close over others. A term that is 0 has the slope.
        value, slope = _log_density(ops.stop_gradient(features), *rest, slopes=True)
        return value + ops.sum(slope * (features - ops.stop_gradient(features)), axis=-1)

    @ops.custom_gradient
    def density(features):
        # The slope costs a third of the whole, and who only predicts needs none.
        def gradient(*args, upstream=None):
            upstream = args[0] if upstream is None else upstream
            return ops.expand_dims(upstream, -1) * _log_density(ops.stop_gradient(features), *rest, slopes=True)[1]

        return _log_density(features, *rest)[0], gradient

    return density(features)


def _log_density(features, owner, classes, points, owners, log_shares, sigma, slopes=False):
    """The log density of each row among the points of its own class, and, where it is asked for, the slope of that.

    Rows of one class visit the points of that class alone, which stand together.
    """
    width = points.shape[-1]
    points, owners, log_shares = ops.reshape(points, (-1, width)), ops.reshape(owners, (-1,)), ops.reshape(log_shares, (-1,))
    table, slots, own = _by_class(owner)
    x = rows(features, table)
    room = owners.shape[0]
    first, behind = (rows(ends, own) for ends in _stretches(owners, classes))
    # With JAX a line has rows of all classes.
    start = ops.min(first, axis=-1, keepdims=True, initial=room)
    length = ops.max(behind, axis=-1, keepdims=True, initial=0) - start
    step = _step(table, length, room)
    first, behind = ops.expand_dims(first, -1), ops.expand_dims(behind, -1)
    # -|x - z|^2 / sigma^2 in its three parts, with as few as possible of the size of all pairs.
    scale = 1 / sigma**2
    square, turned = scale * ops.sum(ops.square(x), axis=-1, keepdims=True), 2 * scale * x

    def add(number, state):
        best, total, mean = state
        places = start + (number * step + ops.arange(step, dtype="int32"))
        block = rows(points, ops.minimum(places, room - 1))
        places = ops.expand_dims(places, 1)
        theirs = ops.logical_and(places >= first, places < behind)
        alone = ops.expand_dims(-scale * ops.sum(ops.square(block), axis=-1), 1)
        alone = ops.where(theirs, alone, _NONE)
        # Rounding makes small negative squares of a point and itself.
        term = ops.minimum(ops.matmul(turned, ops.transpose(block, (0, 2, 1))) + alone - square, 0.0)
        new = ops.maximum(best, ops.max(term, axis=-1))
        # Where no point of the class was met yet, all that is summed is exp(_NONE) = 0.
        shift = ops.where(new <= _NONE, 0.0, new)
        kernel = ops.exp(term - ops.expand_dims(shift, -1))
        old = ops.exp(best - shift)
        return (
            new,
            total * old + ops.sum(kernel, axis=-1),
            mean * ops.expand_dims(old, -1) + ops.matmul(kernel, block) if slopes else mean,
        )

    nothing = ops.zeros_like(x[..., 0])
    steps = (ops.max(length, initial=0) + step - 1) // step
    best, total, mean = ops.fori_loop(0, steps, add, (nothing + _NONE, nothing, ops.zeros_like(x) if slopes else nothing))
    # Nothing met: log 0 gives the -inf. `where` could not, as the ONNX converter writes it as a product with infinity.
    value = best + ops.log(total) + rows(log_shares, ops.minimum(first[..., 0], room - 1))
    value = rows(ops.reshape(value, (-1,)), slots)
    if not slopes:
        return ops.stop_gradient(value), None
    mean = mean / ops.expand_dims(ops.maximum(total, 1e-30), -1)
    met = ops.expand_dims(ops.cast(total > 0, total.dtype), -1)
    slope = -2 * scale * (x - mean) * met
    slope = rows(ops.reshape(slope, (-1, width)), slots)
    return ops.stop_gradient(value), ops.stop_gradient(slope)


def _by_class(owner):
    """Row numbers as a table with a line for each class that is there, filled up with its last row.

    Returns:
        The table; for each row its place in it; the class of each line, or of each of its rows.
    """
    places = ops.arange(ops.shape(owner)[0], dtype="int32")
    if keras.backend.backend() == "jax":
        # Shapes there can't follow from values: one line for all.
        return ops.expand_dims(places, 0), places, ops.expand_dims(owner, 0)
    order = ops.argsort(owner)
    ordered = rows(owner, order)
    line = ops.cumsum(ops.concatenate([ops.zeros_like(ordered[:1]), ops.cast(ordered[1:] != ordered[:-1], "int32")]))
    # A batch may be empty.
    lines = ops.max(line, initial=-1) + 1
    count = ops.sum(ops.cast(ops.expand_dims(ops.arange(lines, dtype="int32"), -1) == line, "int32"), axis=-1)
    size = ops.max(count, initial=0)
    first = ops.cumsum(count) - count
    place = ops.expand_dims(first, -1) + ops.minimum(ops.arange(size, dtype="int32"), ops.expand_dims(count, -1) - 1)
    slots = line * size + places - rows(first, line)
    own = ops.expand_dims(rows(ordered, first), -1)
    return rows(order, place), rows(slots, ops.argsort(order)), own


def _stretches(owners, classes):
    """Where the points of each class begin and where they end. They stand class by class, free room last.

    It follows from weights alone, so that an exported graph has it as numbers.
    """
    # Owners count from 1: place 0 is of free room, the last one of classes that no score is of.
    count = ops.segment_sum(ops.ones_like(owners), ops.minimum(owners, classes + 1), num_segments=classes + 2)[1:-1]
    behind = ops.cumsum(count)
    return behind - count, behind


def _step(table, length, room):
    """How many points of each line to take at a time: few enough for memory, no more than there are."""
    if keras.backend.backend() == "jax":
        return min(STEPS, room)
    lines, size = ops.shape(table)[0], ops.shape(table)[1]
    most = ops.minimum(ops.maximum(STEPS // ops.maximum(lines, 1), LEAST), PAIRS // ops.maximum(lines * size, 1))
    return ops.maximum(ops.minimum(ops.max(length, initial=0), most), 1)


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
    by_class = np.argsort(labels, kind="stable")
    features, labels = features[by_class], labels[by_class]
    room = shape[0] * shape[1]

    def filled(values, dtype):
        whole = np.zeros((room, *values.shape[1:]), dtype)
        whole[: len(values)] = values
        return whole.reshape(*shape, *values.shape[1:])

    used = -(-len(features) // shape[1])
    points = filled(features - center, "float32")
    return points, filled(labels + 1, "int32"), filled(-np.log(sizes[labels]), "float32"), center, np.int32(used)
