"""A missing gradient is an error that names the layer to blame."""

import numpy as np
import tensorflow as tf

from tfdefense._validation import middle
from tfdefense.graph import as_functional


class NoGradient(ValueError):
    """The model has no gradient with respect to its input. All-zero gradients are no error: attacks count them."""


def gradient_or_error(view, tape, value, x, free=None):
    """The gradient of `value` with respect to `x`, 0 where `free` forbids a change; a missing one names the layer to blame.

    It is 0 where it is no finite number, as behind the root of a black pixel: one such would make the whole step none.
    """
    gradient = tape.gradient(value, x)
    if gradient is None:
        raise NoGradient(no_gradient(view))
    followed = tf.math.is_finite(gradient) if free is None else tf.math.is_finite(gradient) & free
    return tf.where(followed, gradient, 0)


def no_gradient(view):
    """Says which layer of a functional Keras model stops the gradient."""
    import keras

    blame, hint = (
        "",
        "Replace it by a differentiable surrogate for the attack, or use `td.attacks.Transfer` from a model that has one.",
    )
    dtype = getattr(getattr(view.model, "input", None), "dtype", "float32")
    if "int" in str(dtype):
        return (
            f"The model's input has dtype {dtype}, through which no gradient flows. Give it a float input: "
            "`inputs = keras.Input(shape); keras.Model(inputs, layers_after_the_input(inputs))`."
        )
    try:
        model = as_functional(view.model)
    except ValueError:
        model = None
    if model is not None:
        layers = [layer for layer in model.operations if not isinstance(layer, keras.layers.InputLayer)]
        inside = keras.Model(model.inputs[0], [keras.tree.flatten(layer.output)[0] for layer in layers])
        x = tf.constant(np.full((1, *model.inputs[0].shape[1:]), middle(view.bounds), "float32"))
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            outputs = keras.tree.flatten(inside(x, training=False))
        stops = (layer for layer, output in zip(layers, outputs, strict=True) if tape.gradient(output, x) is None)
        first = next(stops, None)
        if first is not None:
            blame = f" Layer '{first.name}' ({type(first).__name__}) is the first that stops it."
            if callable(getattr(first, "smooth", None)):
                hint = "It offers a differentiable surrogate: `td.attacks.BPDA(attack)` follows the gradients of that."
    return f"The model has no gradient with respect to its input, so this attack can't follow one.{blame} {hint}"
