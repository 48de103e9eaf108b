"""`calibrate` sets the thresholds of a defense, and keeps a promise on fresh samples."""

from __future__ import annotations

import functools
import warnings

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense import conformal
from tfdefense._validation import Model, Samples, check_labels, check_same_length, pairs
from tfdefense.calibration.running import check_images, run_batches
from tfdefense.contract import check_sound, nodes_of, reject_node, unready
from tfdefense.layers import AdaptableLayer, ClassThreshold, Threshold
from tfdefense.layers.reject import RESOLUTION


def calibrate(
    defended: Model,
    x: Samples,
    y: ArrayLike | None = None,
    *,
    max_rejected: float | None = None,
    confidence: float | None = None,
    risk: float | None = None,
    batch_size: int | None = None,
) -> float:
    """Sets the thresholds so that a promise on fresh samples holds, for all detectors together.

    The promise is one on samples to come that are drawn as `x` was, independently. It is of one of two kinds:

    - `max_rejected`: at most that share of them is rejected. By default the rate keeps it on average over draws of `x`; after
      one draw it may well be above. With `confidence=0.95` 95 of 100 draws give thresholds whose rate is at most that.
    - `risk`: of those that are accepted, at most that share is wrong, in 95 of 100 draws, or as `confidence` says. Of the
      thresholds that keep it the one that accepts most is taken. Where none does, an error says what could be promised.

    `tfdefense/conformal/` has the rules and their proofs, also for joined detectors. With thresholds for each class (`td.PerClass`)
    the promise holds for the samples that are taken for each class; one with confidence holds for all classes at once.

    Args:
        defended: A defended model, adapted.
        x: Clean samples that it has not seen, or a data set of batches, as for `td.adapt`. At 5 % one detector needs 19 samples, 59
            with `confidence=0.95`; a risk of 1 % takes 600 or more.
        y: Their classes, for `risk` alone; None where the data set has them.
        max_rejected: The share that may be rejected, 0.05 unless told otherwise. 0 promises nothing of fresh samples: none of `x`
            is rejected.
        confidence: How sure the promise must be, such as 0.95; None promises the mean rate, or a risk with 0.95.
        risk: The error rate among accepted samples, such as 0.01, in place of `max_rejected`.
        batch_size: Samples at once through the network; None as for `td.adapt`.

    Returns:
        The share of `x` that is rejected now.

    Example:

    >>> defended = td.ThresholdDefense().attach(model)
    >>> td.calibrate(defended, x_held_out, y_held_out, risk=0.05, confidence=0.9) < 0.2
    True
    """
    reject, reject_call = reject_node(defended)
    if risk is not None:
        confidence = _check_risk(risk, confidence, max_rejected)
        x, y = pairs(x, y)
    x, max_rejected = check_images(defended, x), 0.05 if max_rejected is None else max_rejected
    conformal.check_promise(max_rejected, None if risk else confidence)
    nodes = nodes_of(defended, Threshold)
    if not nodes:
        raise ValueError(f"Model '{defended.name}' has no `td.layers.Threshold` to calibrate: its suspicion has a fixed zero.")
    for layer, _ in nodes_of(defended, AdaptableLayer):
        if not layer.adapted:
            raise ValueError(unready(defended))
    check_sound(defended, (Threshold,))
    by_class = _by_class(nodes, reject_call)
    detector_scores = [node.arguments.keras_tensors[0] for _, node in nodes]
    outputs = [*detector_scores, reject_call.arguments.args[1]]
    *values, class_scores = run_batches(keras.Model(defended.inputs[0], outputs), x, batch_size)
    guess = class_scores.argmax(axis=1)
    # A detector that is broken for a sample, by saying NaN or -inf, has it rejected whatever the others say.
    lost = ~np.all([value > -np.inf for value in values], axis=0) | ~np.isfinite(class_scores).all(axis=1)
    for tensor, value in zip(detector_scores, values, strict=True):
        check_varies(tensor._keras_history.operation.name, value)
    # A threshold that was given stays, where others wait for one.
    free = [index for index, (layer, _) in enumerate(nodes) if layer.threshold is None] or list(range(len(nodes)))
    find = functools.partial(_risky, wrong=guess != _labels(y, x, class_scores), risk=risk) if risk else _rejected
    classes = range(class_scores.shape[1]) if by_class else (None,)
    # Of all classes at once: each has its part of the doubt.
    confidence = confidence and 1 - (1 - confidence) / len(classes)
    found = []
    for label in classes:
        chosen = np.ones(len(x), bool) if label is None else guess == label
        members, there = [value[chosen] for value in values], lost[chosen]
        decide = _joined(defended, nodes, members, free, class_scores[chosen])
        scores = np.where(there, np.nan, [members[index] for index in free])
        promised = {"max_rejected": max_rejected, "confidence": confidence, "lost": there, "chosen": chosen}
        try:
            found.append(find(scores, decide, **promised))
        except ValueError as error:
            if label is None:
                raise
            named = f"Of {len(members[0])} samples that are taken for class {label}: {error}"
            raise ValueError(f"{named} Or take one threshold for all classes.") from error
    # Told before anything is changed; set only now.
    for label, thresholds in zip(classes, found, strict=True):
        for index, value in zip(free, thresholds, strict=True):
            layer, own = nodes[index][0], values[index] if label is None else values[index][guess == label]
            options = {} if label is None else {"label": label}
            (layer.place_below if risk else layer.place)(value, own, **options)
    rejects = np.stack([_rejects(nodes[index][0], values[index], class_scores) for index in free])
    return float(np.mean(lost | _joined(defended, nodes, values, free, class_scores)(rejects)))


def _check_risk(risk, confidence, max_rejected):
    if max_rejected is not None:
        raise ValueError(
            f"Expected one promise. Received `risk={risk}` and `max_rejected={max_rejected}`. Leave `max_rejected` out: of the "
            "thresholds that keep the risk the one that rejects least is taken."
        )
    return conformal.check_risk(risk, confidence)


def _labels(y, x, class_scores):
    y = check_labels(y, classes=class_scores.shape[1])
    check_same_length(x=x, y=y)
    return y


def _by_class(nodes, reject_call):
    """Whether each class has thresholds of its own; they must be classes of the model, and of all detectors."""
    own = [layer for layer, _ in nodes if isinstance(layer, ClassThreshold)]
    if not own:
        return False
    of_model = all(node.arguments.keras_tensors[-1] is reject_call.arguments.args[1] for _, node in nodes)
    if len(own) < len(nodes) or not of_model:
        raise ValueError(
            "Thresholds for each class go by the classes of the whole model. Expected all detectors to have them, on its class "
            "scores. Wrap each in `td.PerClass`, or none; a detector with class scores of its own must be the first and only one."
        )
    return True


def _rejected(scores, decide, max_rejected, confidence, lost, chosen):
    """Thresholds for a share of rejected samples."""
    given = decide(np.zeros(scores.shape, bool)) & ~lost
    try:
        return conformal.thresholds(scores, decide, max_rejected, confidence)
    except conformal.NoRoom:
        if not given.any() or not np.isfinite(scores).any(axis=1).all():
            raise
        warnings.warn(
            f"The thresholds that were given reject {given.mean():.1%} of these samples alone: it can't be promised that "
            f"{conformal.promise(max_rejected, confidence)}. Leave them to `td.calibrate` (`threshold=None`), or allow more.",
            UserWarning,
            stacklevel=3,
        )
        # The others add nothing to it.
        return np.where(np.isfinite(scores), scores, -np.inf).max(axis=1)


def _risky(scores, decide, confidence, chosen, wrong, risk, **_):
    """Thresholds for a share of wrong ones among the accepted samples."""
    return conformal.risk_thresholds(scores, wrong[chosen], decide, risk, confidence)


def _rejects(layer, score, class_scores):
    """Whether a detector rejects each sample; what is no number is rejected."""
    inputs = (score, class_scores) if isinstance(layer, ClassThreshold) else (score,)
    return ~(keras.ops.convert_to_numpy(layer(*inputs)) <= 0)


def _joined(defended, nodes, values, free, class_scores):
    """The function from what each of the detectors `free` rejects to what the whole model rejects."""
    tensors = [node.output_tensors[0] for _, node in nodes]
    # From the thresholds on, the graph is a few comparisons: cheap to run.
    join = keras.Function(tensors, reject_node(defended)[1].arguments.args[2])
    rejects = [_rejects(layer, value, class_scores) for (layer, _), value in zip(nodes, values, strict=True)]

    def decide(of_free):
        decisions = dict(enumerate(rejects)) | dict(zip(free, of_free, strict=True))
        joined = join([np.where(decisions[index], 1.0, -1.0).astype("float32") for index in range(len(nodes))])
        return keras.ops.convert_to_numpy(joined) > 0

    return decide


def check_varies(name: str, score: np.ndarray) -> None:
    """Refuses a detector whose score is the same for all calibration samples: no threshold makes it tell anything apart.

    Args:
        name: Name of the detector, for the message.
        score: Its score of each sample.

    Example:

    >>> check_varies("energy", np.array([1.0, 2.0]))
    """
    finite = score[np.isfinite(score)]
    if len(finite) < 2:
        return
    low, high = float(finite.min()), float(finite.max())
    if high - low <= RESOLUTION * max(1.0, abs(low), abs(high)):
        raise ValueError(
            f"The detector score of layer '{name}' is {high:.6g} for all {len(finite)} calibration samples, so no threshold tells "
            "anything apart. Check that the network is trained and the defense adapted to it; then watch another layer, or, for a "
            "density, give another `sigma`."
        )
