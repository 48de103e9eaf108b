"""How many samples go through a network at once, and how far a long run of them is."""

import contextlib
import time

import keras

from tfdefense.graph import walk

# Bytes of activations that a batch may take, and samples that it has at most.
ROOM = 2**28
MOST = 256
# Seconds of work that nobody is told of.
QUIET = 5


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


def batches(count, size):
    """Slices of `size` samples. What takes longer than a few seconds shows how far it is, and `size`."""
    begun, shown, first = time.monotonic(), None, 0
    with contextlib.ExitStack() as stack:
        for start in range(0, count, size):
            yield slice(start, start + size)
            done = min(start + size, count)
            if shown is None and done < count and time.monotonic() - begun > QUIET:
                from tfdefense._console import estimate

                shown, first = stack.enter_context(estimate()), done
            if shown is not None:
                shown(f"{count:,} samples, {size} at once", done - first, count - first)
