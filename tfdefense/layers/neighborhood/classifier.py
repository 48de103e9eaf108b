"""What layers share that run the classifier in front of them again, on other samples than it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfdefense._cuts import Inference

NORMS = ("linf", "l2")


class AroundSample:
    """For layers that are called with a list, samples and their class scores: `classify` gives the scores of other samples.

    It is the graph between the two tensors that the layer is first called with, on the same layers and so the same weights: nothing
    of it is kept in a file, and a loaded model finds it in its own graph.
    """

    name: str
    _classify: Callable[[Any], Any] | None = None

    def classify(self, x: Any) -> Any:
        if self._classify is None:
            raise ValueError(
                f"Layer '{self.name}' runs the classifier that lies between its two inputs. Call it in a functional model, on the "
                "input and on the class scores that come from it: `layer([inputs, model(inputs)])`."
            )
        return ops.cast(self._classify(x), "float32")

    def compute_output_spec(self, inputs):
        x, scores = inputs
        # The first time: a surrogate of the model calls the layer again, on other layers of the same weights.
        if self._classify is None and hasattr(scores, "_keras_history") and hasattr(x, "_keras_history"):
            classifier = Inference([x], scores)
            # In a function: Keras would take what an attribute holds for parts of this layer.
            self._classify = lambda samples: classifier([samples])
        return keras.KerasTensor(scores.shape[:1], dtype="float32")

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[1][:1])


def checked_norm(norm, allowed=NORMS):
    if norm not in allowed:
        raise ValueError(f"`norm` must be one of {', '.join(map(repr, allowed))}. Received: {norm!r}.")
    return norm


def one_hot_best(scores):
    """The class of each sample, as a row with a one; a constant to gradients."""
    # top_k instead of argmax: ONNX and LiteRT converters fail on argmax of floats.
    return ops.one_hot(ops.top_k(ops.stop_gradient(scores), 1)[1][:, 0], scores.shape[-1], dtype="float32")


def flat(x):
    """Each sample as a row."""
    width = 1
    for length in x.shape[1:]:
        width *= length
    return ops.reshape(x, (-1, width))


def wide(numbers, like):
    """One number a sample, to multiply samples with."""
    return ops.reshape(numbers, (-1, *[1] * (len(like.shape) - 1)))


def l2_length(rows):
    """Of each row; at 0 with a gradient, which is 0."""
    return ops.sqrt(ops.maximum(ops.sum(ops.square(rows), axis=-1), 1e-24))
