"""Cuts through the graph of a model: run for inference, and their gradients inside a layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfdefense._validation import Tensor


class Inference(keras.Function):
    """A cut through a graph, run for inference. A bare function runs layers as they were called: random ones would draw.

    Not a `keras.Model`: cut through the middle of a graph, one spoils the original's input and it can't be saved.
    """

    def call(self, inputs):
        # As a model does; whole numbers would reach the first layer as they are.
        inputs = [keras.ops.cast(value, tensor.dtype) for value, tensor in zip(inputs, self.inputs, strict=True)]
        return self._run_through_graph(inputs, operation_fn=_without_training)


def _without_training(operation):
    if not isinstance(operation, keras.layers.Layer):
        return operation
    return lambda *args, **kwargs: operation(*args, **kwargs | {"training": False})


def with_slopes(function: Callable[[Tensor], Tensor], x: Tensor, directions: Callable[[Tensor], Sequence[Tensor]]) -> Any:
    """What a function gives for `x`, and for each direction of its output the gradient of the product with respect to `x`.

    Args:
        function: From samples to one row of numbers, or one number, each.
        x: Samples.
        directions: From what the function gives to tensors of the same shape, taken for constants.

    Returns:
        The output, and the gradients as a list, one row of the shape of `x` a sample.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        from tfdefense._cuts import plain_gradients

        if not tf.executing_eagerly():
            # A tape would see nothing where recording is paused, as in a function that is traced in `tf.init_scope`.
            output, found = plain_gradients.in_graph(function, x, directions)
        else:
            # Persistent, so that one forward pass serves all directions.
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(x)
                output = function(x)
            found = [tape.gradient(output, x, output_gradients=tf.stop_gradient(one)) for one in directions(output)]
    elif backend == "jax":
        import jax

        output, back = jax.vjp(function, x)
        found = [back(jax.lax.stop_gradient(one))[0] for one in directions(output)]
    else:
        raise ValueError(f"Gradients inside a model need Keras on TensorFlow or JAX. It runs on '{backend}': set KERAS_BACKEND.")
    if any(one is None for one in found):
        raise ValueError(
            "The class scores have no gradient with respect to the input: a layer of the classifier stops it, so that nothing can "
            "be searched for around a sample. Attach a defense that looks at scores, such as `td.ThresholdDefense()`."
        )
    return output, found
