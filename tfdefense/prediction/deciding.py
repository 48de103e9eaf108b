"""Everything that a defended model can say of a batch: its outputs, the reason of each decision, and which detector made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense._reasons import SUSPICIOUS
from tfdefense._validation import Model, Tensor
from tfdefense.contract import InferenceModel, is_defended, nodes_of, reject_node
from tfdefense.layers import Reject, Threshold


def detectors(defended: Model) -> tuple[str, ...]:
    """Names of the detectors of a defended model: of the layers whose scores its thresholds look at, in the order of the graph.

    Args:
        defended: A defended model.

    Example:

    >>> found = detectors(td.AnyOf(td.ThresholdDefense("energy"), td.ThresholdDefense("entropy")).attach(model))
    >>> [name.split("_")[0] for name in found]
    ['energy', 'entropy']
    """
    if not knows_reasons(defended):
        return ()
    _, node = reject_node(defended)
    found = nodes_of(defended, Threshold)
    # A model that was built by hand may have its zero without a threshold.
    scores = [call.arguments.keras_tensors[0] for _, call in found] or [node.arguments.args[2]]
    return tuple(tensor._keras_history.operation.name for tensor in scores)


def knows_reasons(model: Any) -> bool:
    """Whether the outputs of a model are those of its own `Reject`, which knows why; not of one in a submodel."""
    if not (isinstance(model, keras.Model) and is_defended(model)):
        return False
    return all(isinstance(output._keras_history.operation, Reject) for output in model.outputs)


def decider(defended: Model) -> Callable[..., dict[str, Tensor]]:
    """The function from a batch to the outputs of the contract, the `reason` of each decision, and the `detector` behind it.

    The reason is a place in `REASONS`. The detector is a place in `detectors(defended)`: of a sample that is rejected as suspicious
    the one whose suspicion is that of the model, -1 of all others. Of detectors that are joined by "any" it is the most suspicious.

    The function takes thresholds in place of the calibrated ones, shape (batch,), or (batch, detectors) where there are several.
    NaN is the calibrated one.

    Args:
        defended: A defended model.

    Example:

    >>> sorted(decider(defended)(x))
    ['detector', 'label', 'reason', 'scores', 'suspicion']
    """
    reject, node = reject_node(defended)
    _, scores, suspicion = node.arguments.args
    found = nodes_of(defended, Threshold)
    own = [call.output_tensors[0] for _, call in found] or [suspicion]
    raw = [call.arguments.keras_tensors[0] for _, call in found]
    inner = InferenceModel(defended.inputs[0], [scores, suspicion, *own, *raw])
    join = keras.Function(own, suspicion) if found else None

    def decide(x, thresholds=None):
        scores, joined, *rest = inner(x)
        parts, raw = rest[: len(own)], rest[len(own) :]
        if thresholds is not None:
            if join is None:
                raise ValueError(f"Model '{defended.name}' has no threshold to move: its suspicion has a fixed zero.")
            given = [thresholds] if len(raw) == 1 else ops.unstack(thresholds, num=len(raw), axis=1)
            moved = zip(given, raw, parts, strict=True)
            parts = [ops.where(ops.isnan(value), part, score - value) for value, score, part in moved]
            joined = join(parts)
            joined = joined[0] if isinstance(joined, list | tuple) else joined
        outputs = reject.decide(x, scores, joined)
        outputs["detector"] = _deciding(parts, joined, outputs["reason"])
        return outputs

    return decide


def _deciding(parts, joined, reason):
    """The number of the detector whose suspicion is the joined one, where a detector rejects."""
    stacked = ops.stack(parts, axis=1)
    # Two that are infinite are equal, and their difference is none.
    apart = ops.where(stacked == joined[:, None], ops.zeros_like(stacked), ops.abs(stacked - joined[:, None]))
    nearest = ops.cast(ops.top_k(-apart, 1)[1][:, 0], "int32")
    return ops.where(reason == SUSPICIOUS, nearest, ops.full_like(nearest, -1))


def confidence_of(scores: np.ndarray) -> np.ndarray:
    """The largest softmax of each row of class scores; NaN where they are no numbers."""
    with np.errstate(invalid="ignore", over="ignore"):
        scores = scores - scores.max(axis=1, keepdims=True)
        return (1 / np.exp(scores).sum(axis=1)).astype("float32")
