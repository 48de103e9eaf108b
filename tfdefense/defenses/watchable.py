"""Which layers of a classifier a defense can watch."""

from __future__ import annotations

from typing import Any

import keras

from tfdefense import graph
from tfdefense._validation import Model


def watchable(model: Model) -> dict[str, tuple[int, ...]]:
    """Layers that a defense can watch, by the path that `expose` takes -> shape of the output for one sample.

    Those that are called once, and give one tensor of floats whose size is known. The last is watched before its softmax.

    Args:
        model: A functional or Sequential model.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(3, name="scores")])
    >>> watchable(model)
    {'hidden': (8,), 'scores': (3,)}
    """
    try:
        graph.expose(model)
    except ValueError:  # no classifier that a defense can be attached to
        return {}
    # A graph is walked from its end.
    return dict(reversed(_watchable(graph.as_functional(model)).items()))


def _watchable(model, prefix=""):
    found: dict[str, tuple[int, ...]] = {}
    calls: dict[str, list[Any]] = {}
    for operation, node in graph.walk(model):
        if isinstance(operation, keras.layers.Layer) and not isinstance(operation, keras.layers.InputLayer):
            calls.setdefault(operation.name, []).append((operation, node))
    for name, every in calls.items():
        operation, node = every[0]
        if len(every) > 1:
            continue
        output = node.output_tensors
        if len(output) == 1 and len(output[0].shape) > 1 and None not in output[0].shape[1:]:
            if keras.backend.is_float_dtype(output[0].dtype):
                found[prefix + name] = tuple(output[0].shape[1:])
        if graph.is_submodel(operation) and len(operation.outputs) == 1:
            found |= _watchable(graph.as_functional(operation), f"{prefix}{name}/")
    return found
