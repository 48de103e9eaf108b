"""The last Dense layer of a classifier, as defenses need it: what it takes, and what it makes of other features."""

from __future__ import annotations

import keras

from tfdefense._validation import Tensor
from tfdefense.graph import before_last_dense


def into_last_dense(logits: Tensor, advice: str) -> Tensor:
    """The last hidden features. Where none are in sight, an error that gives advice on what to write."""
    features, last = before_last_dense(logits)
    if features is None:
        raise ValueError(
            f"The model ends in '{last.name}' ({type(last).__name__}), behind which no Dense layer is in sight. "
            f"Say where to look: `{advice}`."
        )
    return features


def logits_of(features: Tensor, logits: Tensor) -> Tensor:
    """What the last Dense layer, and all behind it, makes of other features than those that `into_last_dense` found."""
    calls, tensor = [], logits
    while not calls or not isinstance(calls[-1][0], keras.layers.Dense):
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        calls.append((history.operation, node))
        tensor = node.arguments.keras_tensors[0]
    for operation, node in reversed(calls):
        args, kwargs = node.arguments.fill_in({id(node.arguments.keras_tensors[0]): features})
        features = operation(*args, **kwargs)
    return features
