from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense import graph  # its names are looked up later: it may be what loads this file
from tfdefense._reasons import REASONS as REASONS
from tfdefense._validation import Bounds, Tensor, check_number, checked_bounds, checked_names, is_bounded
from tfdefense.conformal import check_promise, thresholds

_checks_weights = contextvars.ContextVar("checks_weights", default=True)


@contextlib.contextmanager
def weights_are_constants():
    """Graphs that are built inside do not look at their weights: for formats that freeze them, once they have been checked."""
    token = _checks_weights.set(False)
    try:
        yield
    finally:
        _checks_weights.reset(token)


# How far a detector score may move by rounding, with the samples beside it in a batch and from one machine or format to the
# next: a share of the interquartile range of the calibration samples. Measured: 4e-4 for SafetyNet, 2e-5 for all others.
ROUNDING = 1e-3

# Detector scores as near as this, as a share of their size, or of 1 where that is more, are one to a threshold.
RESOLUTION = 1e-5


@keras.saving.register_keras_serializable(package="tfdefense")
class Threshold(keras.layers.Layer):
    """Turns a detector score into a suspicion: the score minus a threshold, so that above 0 means rejected.

    Always active. Until it is calibrated (or given a threshold) the suspicion is +inf: an unfinished defense rejects
    everything instead of letting everything pass.

    Args:
        threshold: The detector score above which a sample is rejected. None waits for `calibrate`.

    Example:

    >>> layer = Threshold()
    >>> layer.calibrate([0.0, 1.0, 2.0, 3.0], max_rejected=0.4)
    >>> float(layer(np.array([3.0]))[0])
    0.5
    """

    def __init__(self, threshold: float | None = None, **kwargs: Any):
        # float16 can't hold a threshold that keeps a promised rejection rate.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if threshold is not None and not np.isfinite(threshold):
            raise ValueError(f"`threshold` must be a finite number, or None, which waits for `calibrate`. Received: {threshold!r}.")
        self.threshold = threshold

    def build(self, input_shape):
        value = -float("inf") if self.threshold is None else float(self.threshold)
        self.value = self.add_weight(name="value", shape=(), initializer=keras.initializers.Constant(value), trainable=False)

    def call(self, score):
        return score - self.value

    def compute_output_shape(self, input_shape):
        return input_shape

    @property
    def placed(self) -> bool:
        """Whether there is a threshold, sound or not."""
        return self.built and bool((ops.convert_to_numpy(self.value) != -np.inf).all())

    @property
    def calibrated(self) -> bool:
        return self.built and bool(np.isfinite(ops.convert_to_numpy(self.value)).all())

    def calibrate(self, score: Tensor, max_rejected: float = 0.05, confidence: float | None = None) -> None:
        """Sets the threshold from clean samples, so that fresh ones are rejected as rarely as `td.calibrate` promises.

        It keeps `ROUNDING` away from each of them, so that what else is in a batch changes no decision; where they lie too close
        for that, as far as half of the promised rejections allow.
        """
        score = ops.convert_to_numpy(score).astype("float32")
        if score.size == 0:
            raise ValueError("Expected at least one sample to calibrate on. Received none.")
        check_promise(max_rejected, confidence)
        self.place(thresholds(score[None], None, max_rejected, confidence)[0], score)

    def place(self, value: float, score: np.ndarray) -> None:
        """Sets a threshold that tells apart the samples up to a value and those above it."""
        score = ops.convert_to_numpy(score).astype("float32")
        if not self.built:
            self.build(score.shape)
        score = np.sort(np.where(score > -np.inf, score, np.inf))
        # Never below the value, so what was promised with that as the threshold is kept.
        self._assign(_in_gap(score, max(0, int(np.searchsorted(score, value, side="right")) - 1)))

    def place_below(self, value: float, score: np.ndarray) -> None:
        """Sets a threshold that accepts what is below a value: the value less what rounding may move, if no sample lies there."""
        score = ops.convert_to_numpy(score).astype("float32")
        if not self.built:
            self.build(score.shape)
        self._assign(_just_below(score, value))

    def _assign(self, value):
        self.value.assign(value)

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


@keras.saving.register_keras_serializable(package="tfdefense")
class ClassThreshold(Threshold):
    """Turns a detector score into a suspicion by a threshold of the class that the sample is taken for.

    Always active. Each class waits for its own threshold, until which its samples are rejected. An attacker follows the gradient of
    the score; the threshold is a constant of the class.

    Args:
        classes: Number of classes.
        threshold: The detector score above which a sample is rejected, the same for all. None waits for `td.calibrate`.

    Call arguments:
        score: Detector score, shape (batch,).
        scores: Class scores, shape (batch, classes).

    Example:

    >>> layer = ClassThreshold(2)
    >>> score, scores = np.array([1.0, 1.0]), np.array([[5.0, 0.0], [0.0, 5.0]])
    >>> layer(score, scores).numpy().tolist()
    [inf, inf]
    >>> _ = layer.value.assign([0.5, 3.0])
    >>> layer(score, scores).numpy().tolist()
    [0.5, -2.0]
    """

    def __init__(self, classes: int, threshold: float | None = None, **kwargs: Any):
        super().__init__(threshold, **kwargs)
        check_number("classes", classes, low=1, whole=True)
        self.classes = int(classes)

    def build(self, score_shape, scores_shape=None):
        value = -float("inf") if self.threshold is None else float(self.threshold)
        constant = keras.initializers.Constant(value)
        self.value = self.add_weight(name="value", shape=(self.classes,), initializer=constant, trainable=False)

    def call(self, score, scores=None):
        best = ops.top_k(scores, 1)[1][:, 0]
        return score - ops.take(self.value, best, axis=0)

    def compute_output_shape(self, score_shape, scores_shape=None):
        return score_shape

    def place(self, value: float, score: np.ndarray, label: int | None = None) -> None:
        """Sets the threshold of one class; `score` has its samples alone. Without a class it is that of all."""
        self._placed(super().place, value, score, label)

    def place_below(self, value: float, score: np.ndarray, label: int | None = None) -> None:
        self._placed(super().place_below, value, score, label)

    def _placed(self, place, value, score, label):
        self._label = label
        place(value, score)

    def _assign(self, value):
        found = np.array(ops.convert_to_numpy(self.value))
        found[slice(None) if self._label is None else self._label] = value
        self.value.assign(found)

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


def _just_below(score, value):
    """A float32 below a value and not below the highest score that is: as far from the value as rounding may move a score."""
    finite = score[np.isfinite(score)].astype("float64")
    below = finite[finite < value]
    lower, upper = np.percentile(finite, [25, 75])
    margin = min(ROUNDING * (upper - lower), (value - below.max()) / 2 if below.size else np.inf)
    return min(np.float32(value - margin), np.nextafter(np.float32(value), np.float32(-np.inf)))


def _in_gap(score, place):
    """A threshold that accepts the sorted `score[place]`, in the middle of the first gap from there that rounding can't cross.

    Samples nearer to each other would fall to either side of it, each time anew. Where many lie close together, the first
    such gap may be behind them all, and nothing would be rejected: half of those above are given up at most, or a few, and the
    widest gap among these is taken.
    """
    finite = score[score < np.inf].astype("float64")
    lower, upper = np.percentile(finite, [25, 75])
    finite = finite[place:]
    precise = RESOLUTION * np.maximum(1.0, np.abs(finite))
    wide = np.maximum(2 * ROUNDING * (upper - lower), precise)
    gaps = np.append(np.diff(finite), np.inf)
    first, half = int(np.argmax(gaps > wide)), max(10, len(finite) // 2)
    if first > half and (gaps[:half] > precise[:half]).any():
        first = int(np.argmax(gaps[:half]))
    above = finite[first + 1] if first + 1 < len(finite) else finite[first] + 2 * wide[first]
    return float((finite[first] + above) / 2)


@keras.saving.register_keras_serializable(package="tfdefense")
class Join(keras.layers.Layer):
    """Joins the suspicions of several detectors on one model.

    Always active. Differentiable almost everywhere: the gradient goes to the deciding detector. Where the suspicion of one detector
    is NaN or -inf, so that it is broken, the joined one is NaN, which rejects however it is joined further on.

    Args:
        how: "any" rejects what any detector rejects (the largest suspicion), "all" what all of them reject (the smallest).

    Example:

    >>> np.asarray(Join("any")([np.array([-1.0, 2.0]), np.array([-3.0, -1.0])])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, how: str = "any", **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if how not in ("any", "all"):
            raise ValueError(f"`how` must be 'any' or 'all'. Received: {how!r}.")
        self.how = how

    def call(self, suspicions):
        stacked = ops.stack(suspicions, axis=0)
        joined = ops.max(stacked, axis=0) if self.how == "any" else ops.min(stacked, axis=0)
        # What is no number may lose against one that is: a broken detector would then be outvoted. Log 1 is 0, log -1 is NaN.
        # A `where` would not do: a converter that writes it as a product makes NaN of all.
        sound = ops.all(stacked > -float("inf"), axis=0)
        return joined + ops.log(2.0 * ops.cast(sound, joined.dtype) - 1.0)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@keras.saving.register_keras_serializable(package="tfdefense")
class Reject(keras.layers.Layer):
    """Gives the three outputs of a defended model: `scores`, `suspicion`, and the `label` with -1 for rejected.

    Always active. A sample with NaN, infinity or values outside `bounds`, or whose scores or suspicion are not numbers,
    is rejected with suspicion +inf; the others of its batch are untouched. Every sample is, where a weight of the network or
    of the defense is not finite: ReLU and max-pooling may swallow a NaN, so that the scores do not show it. An attacker
    follows the gradients of `scores` and `suspicion`, which pass unchanged.

    Args:
        bounds: Lowest and highest value that an input may have; None where any finite number is valid.
        class_names: Names of the classes in the order of the scores, kept for those who ask: `td.contract.class_names`.

    Call arguments:
        x: The model's input.
        scores: Class scores, shape (batch, classes).
        suspicion: Above 0 means rejected, shape (batch,).
        base: Scores of the undefended classifier where they differ from `scores`; kept in the graph for those who ask.

    Example:

    >>> out = Reject(bounds=(0, 1))(np.array([[0.5], [9.0]]), np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([-1.0, -1.0]))
    >>> np.asarray(out["label"]).tolist()
    [1, -1]
    """

    def __init__(self, bounds: Bounds = (0.0, 1.0), class_names: Sequence[str] | None = None, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.bounds = checked_bounds(bounds)
        self._behind: Callable[[], Sequence[Any]] = tuple
        self.class_names = checked_names(class_names)

    def call(self, x, scores, suspicion, base=None):
        outputs = self.decide(x, scores, suspicion)
        del outputs["reason"]
        return outputs

    def decide(self, x: Tensor, scores: Tensor, suspicion: Tensor) -> dict[str, Tensor]:
        """The outputs, and the `reason` of each: its place in `REASONS`."""
        valid, sound = self.valid_input(x), self.sound(scores, suspicion)
        good = ops.logical_and(valid, sound)
        # Minus log 0 is +inf and minus log 1 is 0. A `where` with an infinite branch would do as well, but the converter
        # behind Keras's ONNX export writes it as a product, and 0 * inf is NaN.
        number = suspicion > -float("inf")
        suspicion = ops.where(number, suspicion, ops.zeros_like(suspicion)) - ops.log(ops.cast(good, suspicion.dtype))
        # top_k instead of argmax: ONNX and LiteRT converters fail on argmax of floats.
        best = ops.cast(ops.top_k(scores, 1)[1][:, 0], "int32")
        # Asked this way round a suspicion that is no number, such as a converter's 0 * inf, rejects too.
        accepted = suspicion <= 0
        label = ops.where(accepted, best, ops.full_like(best, -1))
        # Whole numbers in place of choices: the place in REASONS.
        invalid, broken = (ops.cast(ops.logical_not(good), "int32") for good in (valid, sound))
        reason = ops.cast(ops.logical_not(accepted), "int32") + invalid + 2 * broken * (1 - invalid)
        return {"scores": scores, "suspicion": suspicion, "label": label, "reason": reason}

    def valid_input(self, x: Tensor) -> Tensor:
        """Whether each sample is finite and within the bounds."""
        low, high = self.bounds
        # float32 arithmetic of an honest pipeline may end a hair outside.
        slack = 1e-6 * (high - low)
        x = ops.cast(x, "float32")
        # NaN fails both comparisons.
        within = ops.logical_and(x >= low - slack, x <= high + slack) if is_bounded(self.bounds) else ops.isfinite(x)
        return ops.all(within, axis=tuple(range(1, len(x.shape))))

    def sound(self, scores: Tensor, suspicion: Tensor) -> Tensor:
        """Whether what the network and the detector say of each sample are numbers, and every weight behind them is finite.

        A suspicion of minus infinity would be certainty: no detector has that.
        """
        numbers = ops.logical_and(ops.all(ops.isfinite(scores), axis=-1), suspicion > -float("inf"))
        weights = list(self._weights_behind()) if _checks_weights.get() else []
        if not weights:
            return numbers
        return ops.logical_and(numbers, ops.all(ops.stack([ops.all(ops.isfinite(weight)) for weight in weights])))

    def _weights_behind(self):
        # Asked for at each call: adapting may give a layer new variables.
        seen = {}
        for operation in self._behind():
            for weight in getattr(operation, "weights", ()):
                if keras.backend.is_float_dtype(weight.dtype):
                    seen[id(weight)] = weight
        return seen.values()

    def compute_output_spec(self, x, scores, suspicion, base=None):
        tensors = [tensor for tensor in (scores, suspicion, base) if hasattr(tensor, "_keras_history")]
        # The first time: a surrogate of the model calls the layer again, on other layers of the same weights.
        if tensors and not self._behind():
            operations = list(dict.fromkeys(operation for operation, _ in graph.behind(tensors)))
            # In a function: Keras would take what an attribute holds for parts of this layer.
            self._behind = lambda: operations
        batch = scores.shape[:1]
        return {
            "scores": keras.KerasTensor(scores.shape, dtype="float32"),
            "suspicion": keras.KerasTensor(batch, dtype="float32"),
            "label": keras.KerasTensor(batch, dtype="int32"),
        }

    def get_config(self):
        # JSON has no infinity.
        bounds = self.bounds if is_bounded(self.bounds) else None
        return {**super().get_config(), "bounds": bounds, "class_names": self.class_names}
