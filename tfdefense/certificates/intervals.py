"""Interval bounds: what a network can give for any input between two others, layer by layer."""

from __future__ import annotations

import functools
from typing import Any

import keras
from keras import ops

from tfdefense._validation import Model, Tensor
from tfdefense.graph import as_functional

_LAYERS = keras.layers
# Each output grows with each input, or stays: the lowest inputs give the lowest outputs.
_RISING = (
    *(_LAYERS.ReLU, _LAYERS.LeakyReLU, _LAYERS.ELU, _LAYERS.Identity, _LAYERS.Dropout, _LAYERS.GaussianNoise, _LAYERS.Flatten),
    *(_LAYERS.MaxPooling1D, _LAYERS.MaxPooling2D, _LAYERS.AveragePooling1D, _LAYERS.AveragePooling2D, _LAYERS.Reshape),
    *(_LAYERS.GlobalMaxPooling2D, _LAYERS.GlobalAveragePooling2D, _LAYERS.ZeroPadding2D, _LAYERS.Cropping2D, _LAYERS.Permute),
    *(_LAYERS.Add, _LAYERS.Average, _LAYERS.Maximum, _LAYERS.Minimum, _LAYERS.Concatenate, _LAYERS.UpSampling2D),
)
_RISING_FUNCTIONS = {
    "relu",
    "relu6",
    "leaky_relu",
    "linear",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "softplus",
    "elu",
    "selu",
    "softsign",
}


class _Interval:
    """No nested structure to Keras, which would take a pair apart."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    @property
    def middle(self):
        return (self.low + self.high) / 2

    @property
    def radius(self):
        return (self.high - self.low) / 2


def interval_bounds(model: Model, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds of each output of a network over all inputs between two.

    Exact for one linear layer; behind each further one they are looser, so that only networks which were trained for it have bounds
    worth something. Differentiable in the weights. In float32: they may be off by its rounding.

    It knows Dense, Conv1D to Conv3D, batch normalisation and rescaling, ReLU and other rising activations, poolings, sums, and what
    only moves numbers.

    Args:
        model: A functional or Sequential model with one input and one output, as in inference.
        low, high: The ends, two batches of inputs.

    Returns:
        Two batches of outputs.

    Example:

    >>> low, high = interval_bounds(model, np.clip(x - 0.01, 0, 1), np.clip(x + 0.01, 0, 1))
    >>> bool(((low <= model(x)) & (model(x) <= high)).numpy().all())
    True

    Reference: Gowal et al., 2018, On the effectiveness of interval bound propagation for training verifiably robust models.
    """
    model = as_functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"Expected a model with one input and one output. Received '{model.name}' with {len(model.inputs)} and "
            f"{len(model.outputs)}."
        )
    given = _Interval(*(ops.cast(end, model.inputs[0].dtype) for end in (low, high)))
    (found,) = keras.tree.flatten(model._run_through_graph([given], operation_fn=lambda one: functools.partial(_through, one)))
    return found.low, found.high


def _through(operation: Any, *arguments: Any, **options: Any) -> _Interval:
    """What an operation of a graph makes of intervals."""
    inputs: Any = arguments[0] if arguments else None
    kind = type(operation)
    if isinstance(operation, keras.Model):
        return _Interval(*interval_bounds(operation, inputs.low, inputs.high))
    if kind is _LAYERS.Dense:
        return _linear(operation, inputs, ops.matmul)
    if kind in (_LAYERS.Conv1D, _LAYERS.Conv2D, _LAYERS.Conv3D):
        return _linear(operation, inputs, operation.convolution_op)
    if kind is _LAYERS.BatchNormalization:
        scale = ops.rsqrt(operation.moving_variance + operation.epsilon)
        scale = scale * ops.abs(operation.gamma) if operation.scale else scale
        axis = operation.axis % len(inputs.low.shape)
        scale = ops.reshape(scale, [-1 if place == axis else 1 for place in range(len(inputs.low.shape))])
        return _around(operation(inputs.middle, training=False), inputs.radius * scale)
    if kind is _LAYERS.Rescaling:
        return _around(operation(inputs.middle), inputs.radius * ops.abs(ops.convert_to_tensor(operation.scale, "float32")))
    rising = kind is _LAYERS.Activation and getattr(operation.activation, "__name__", "") in _RISING_FUNCTIONS
    if rising or kind in _RISING:
        return _Interval(*(operation(_ends(inputs, end)) for end in ("low", "high")))
    raise ValueError(
        f"No interval bound is known of layer '{operation.name}' ({kind.__name__}). Expected layers such as Dense, Conv2D, ReLU, "
        "pooling and batch normalisation."
    )


def _ends(inputs, end):
    return keras.tree.map_structure(lambda one: getattr(one, end), inputs)


def _around(middle, radius):
    return _Interval(middle - radius, middle + radius)


def _linear(layer, inputs, product):
    """A layer of weights, a bias and a rising activation."""
    name = getattr(layer.activation, "__name__", "linear") if layer.activation else "linear"
    if name not in _RISING_FUNCTIONS:
        raise ValueError(f"No interval bound is known of the activation '{name}' of layer '{layer.name}'. Expected one that rises.")
    middle, radius = product(inputs.middle, layer.kernel), product(inputs.radius, ops.abs(layer.kernel))
    if layer.use_bias:
        shape = [1] * (len(middle.shape) - 1) + [-1]
        if getattr(layer, "data_format", "channels_last") == "channels_first":
            shape[1:] = [-1] + [1] * (len(middle.shape) - 2)
        middle = middle + ops.reshape(layer.bias, shape)
    found = _around(middle, radius)
    if name == "linear":
        return found
    return _Interval(layer.activation(found.low), layer.activation(found.high))
