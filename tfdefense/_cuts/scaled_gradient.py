"""Gradients of models in float16, which small numbers would leave."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def scaled_gradient(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with gradients that go back through it at the same size for each sample, whatever they are.

    In float16 those of a sample that the model is sure of would vanish, as they would in training without a scaled loss.
    """
    import tensorflow as tf

    def scaled(x):
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = call(x)
        every = tf.nest.flatten(outputs)
        smooth = [output for output in every if output.dtype.is_floating]

        @tf.custom_gradient
        def through(start, *passed):
            def back(*upstream):
                largest = [tf.reduce_max(tf.abs(tf.reshape(one, [tf.shape(one)[0], -1])), -1) for one in upstream]
                size = tf.maximum(tf.reduce_max(tf.stack(largest), 0), 1e-30)

                def times(tensor, factor):
                    return tensor * tf.reshape(factor, [-1] + [1] * (len(tensor.shape) - 1))

                scaled = [tf.cast(times(one, 1 / size), output.dtype) for one, output in zip(upstream, smooth, strict=True)]
                gradient = tape.gradient(smooth, x, output_gradients=scaled)
                return (None if gradient is None else times(gradient, size), *[None] * len(passed))

            return [tf.cast(one, tf.float32) for one in passed], back

        given = iter(tf.nest.flatten(through(x, *smooth)))
        return tf.nest.pack_sequence_as(outputs, [next(given) if one.dtype.is_floating else one for one in every])

    return scaled
