import keras
import numpy as np
from keras import ops

from tfdefense.bounds import checked_bounds

# How far a sample's statistic may move by rounding, with the samples beside it in a batch and from one machine or format to the
# next: a share of the interquartile range of the calibration samples. Measured: 4e-4 for SafetyNet, 2e-5 for all others.
ROUNDING = 1e-3


@keras.saving.register_keras_serializable(package="tfdefense")
class Threshold(keras.layers.Layer):
    """Turns a detector's statistic into a suspicion: the statistic minus a threshold, so that above 0 means rejected.

    Always active. Until it is calibrated (or given a threshold) the suspicion is +inf: an unfinished defense rejects
    everything instead of letting everything pass.

    Args:
        threshold: The statistic above which a sample is rejected. None waits for `calibrate`.

    Example:

    >>> layer = Threshold()
    >>> layer.calibrate([0.0, 1.0, 2.0, 3.0], max_rejected=0.25)
    >>> float(layer(np.array([3.0]))[0])
    0.5
    """

    def __init__(self, threshold=None, **kwargs):
        # float16 can't hold a threshold that keeps a promised rejection rate.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.threshold = threshold

    def build(self, input_shape):
        value = -float("inf") if self.threshold is None else float(self.threshold)
        self.value = self.add_weight(name="value", shape=(), initializer=keras.initializers.Constant(value), trainable=False)

    def call(self, statistic):
        return statistic - self.value

    def compute_output_shape(self, input_shape):
        return input_shape

    @property
    def calibrated(self):
        return self.built and float(ops.convert_to_numpy(self.value)) > -float("inf")

    def calibrate(self, statistic, max_rejected):
        """Sets a threshold that rejects at most the share `max_rejected` of these samples, and as many as that allows.

        It keeps `ROUNDING` away from each of them, so that what else is in a batch changes no decision.
        """
        statistic = keras.ops.convert_to_numpy(statistic).astype("float32")
        if statistic.size == 0:
            raise ValueError("Expected at least one sample to calibrate on. Received none.")
        if not self.built:
            self.build(statistic.shape)
        # A sample without a finite statistic is rejected whatever the threshold, and takes its place in the share.
        statistic = keras.ops.convert_to_numpy(ops.nan_to_num(statistic, nan=float("inf"), posinf=float("inf")))
        statistic.sort()
        # The tolerance keeps 0.07 * 100 = 7.000000000000001 and its like from costing a sample.
        allowed = int(max_rejected * statistic.size + 1e-9)
        if allowed >= statistic.size:
            raise ValueError(f"Expected a share below 1. Received `max_rejected={max_rejected}`.")
        value = float(statistic[statistic.size - 1 - allowed])
        if value == float("inf"):
            raise ValueError(
                f"More than {max_rejected:.1%} of the calibration samples have no finite statistic, so no threshold "
                "keeps that rate. Check that they are valid inputs and that the defense is adapted."
            )
        self.value.assign(_in_gap(statistic, statistic.size - 1 - allowed))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}


def _in_gap(statistic, place):
    """A threshold that accepts the sorted `statistic[place]`, in the middle of the first gap from there that rounding can't cross.

    Samples nearer to each other would fall to either side of it, each time anew.
    """
    finite = np.maximum(statistic[statistic < np.inf], np.finfo("float32").min).astype("float64")
    lower, upper = np.percentile(finite, [25, 75])
    finite = finite[place:]
    wide = np.maximum(2 * ROUNDING * (upper - lower), 1e-5 * np.maximum(1.0, np.abs(finite)))
    first = int(np.argmax(np.append(np.diff(finite) > wide[:-1], True)))
    above = finite[first + 1] if first + 1 < len(finite) else finite[first] + 2 * wide[first]
    return float((finite[first] + above) / 2)


@keras.saving.register_keras_serializable(package="tfdefense")
class Join(keras.layers.Layer):
    """Joins the suspicions of several detectors on one model.

    Always active. Differentiable almost everywhere: the gradient goes to the deciding detector.

    Args:
        how: "any" rejects what any detector rejects (the largest suspicion), "all" what all of them reject (the smallest).

    Example:

    >>> np.asarray(Join("any")([np.array([-1.0, 2.0]), np.array([-3.0, -1.0])])).tolist()
    [-1.0, 2.0]
    """

    def __init__(self, how="any", **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if how not in ("any", "all"):
            raise ValueError(f"`how` must be 'any' or 'all'. Received: {how!r}.")
        self.how = how

    def call(self, suspicions):
        stacked = ops.stack(suspicions, axis=0)
        return ops.max(stacked, axis=0) if self.how == "any" else ops.min(stacked, axis=0)

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        return {**super().get_config(), "how": self.how}


@keras.saving.register_keras_serializable(package="tfdefense")
class Reject(keras.layers.Layer):
    """Gives the three outputs of a defended model: `scores`, `suspicion`, and the `label` with -1 for rejected.

    Always active. A sample with NaN, infinity or values outside `bounds`, or whose scores or suspicion are not numbers,
    is rejected with suspicion +inf; the others of its batch are untouched. An attacker follows the gradients of `scores`
    and `suspicion`, which pass unchanged.

    Args:
        bounds: Lowest and highest value that an input may have.

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

    def __init__(self, bounds=(0.0, 1.0), **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        self.bounds = checked_bounds(bounds)

    def call(self, x, scores, suspicion, base=None):
        low, high = self.bounds
        # float32 arithmetic of an honest pipeline may end a hair outside.
        slack = 1e-6 * (high - low)
        axes = tuple(range(1, len(x.shape)))
        x = ops.cast(x, "float32")
        # NaN fails both comparisons.
        valid = ops.all(ops.logical_and(x >= low - slack, x <= high + slack), axis=axes)
        valid = ops.logical_and(valid, ops.all(ops.isfinite(scores), axis=-1))
        valid = ops.logical_and(valid, ops.logical_not(ops.isnan(suspicion)))
        # Minus log 0 is +inf and minus log 1 is 0. A `where` with an infinite branch would do as well, but the converter
        # behind Keras's ONNX export writes it as a product, and 0 * inf is NaN.
        suspicion = ops.where(ops.isnan(suspicion), ops.zeros_like(suspicion), suspicion)
        suspicion = suspicion - ops.log(ops.cast(valid, suspicion.dtype))
        # top_k instead of argmax: ONNX and LiteRT converters fail on argmax of floats.
        best = ops.cast(ops.top_k(scores, 1)[1][:, 0], "int32")
        # Asked this way round a suspicion that is no number, such as a converter's 0 * inf, rejects too.
        label = ops.where(suspicion <= 0, best, ops.full_like(best, -1))
        return {"scores": scores, "suspicion": suspicion, "label": label}

    def compute_output_spec(self, x, scores, suspicion, base=None):
        batch = scores.shape[:1]
        return {
            "scores": keras.KerasTensor(scores.shape, dtype="float32"),
            "suspicion": keras.KerasTensor(batch, dtype="float32"),
            "label": keras.KerasTensor(batch, dtype="int32"),
        }

    def get_config(self):
        return {**super().get_config(), "bounds": self.bounds}
