"""What a graph costs, counted in multiplications a sample."""

from __future__ import annotations

import math
from collections.abc import Iterable

from tfdefense import graph
from tfdefense._validation import Tensor


def multiplications(tensors: Iterable[Tensor]) -> int:
    """Of all layers with kernels behind symbolic tensors: each kernel's size, times the places where it is applied.

    Example:

    >>> inputs = keras.Input((8, 8, 3))
    >>> multiplications([keras.layers.Conv2D(4, 3)(inputs)]) == 3 * 3 * 3 * 4 * 6 * 6
    True
    """
    return sum(_of_call(operation, node) for operation, node in graph.behind(tensors))


def _of_call(operation, node):
    if graph.is_submodel(operation):
        return multiplications(graph.as_functional(operation).outputs)
    kernels = sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ()) if len(weight.shape) > 1)
    if not kernels:
        return 0
    shape = node.output_tensors[0].shape[1:]
    places = shape[1:] if getattr(operation, "data_format", None) == "channels_first" else shape[:-1]
    # Where the size is free it counts as one place.
    return kernels * math.prod(size or 1 for size in places)
