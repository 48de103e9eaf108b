"""How many samples go through a network at once."""

import keras

from tfdefense.graph import walk

# Bytes of activations that a batch may take, and samples that it has at most.
ROOM = 2**28
MOST = 256


def samples_at_once(model, x):
    """As many samples as keep all activations of a model within `ROOM`, at least one and at most `MOST`.

    All of them, as a model that is called holds each until its last. `MOST` where a model can't be looked into.
    """
    return max(1, min(MOST, ROOM // max(1, _bytes_a_sample(model, x.shape[1:]))))


def _bytes_a_sample(model, shape):
    """Activations as float32. An open dimension is taken for the largest of the input, which it seldom passes."""
    if not getattr(model, "outputs", None):
        return 0
    total = 0
    for operation, node in walk(model):
        for tensor in node.output_tensors:
            size = 4
            for length in tensor.shape[1:]:
                size *= max(shape) if length is None else length
            total += size
        if isinstance(operation, keras.Model):
            total += _bytes_a_sample(operation, shape)
    return total
