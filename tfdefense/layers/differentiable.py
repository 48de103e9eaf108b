from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense._renamed import with_new_names


@keras.saving.register_keras_serializable(package="tfdefense", name="Smoothed")
class Differentiable(keras.layers.Wrapper):
    """A differentiable surrogate of a layer: its `smooth(inputs, slope, widen)` in place of its `call`, on the same weights.

    For attackers. Always active. `td.differentiable` puts it around every layer of a model that offers `smooth`; slope and width
    are weights, so that an attack can anneal them without tracing anything anew.

    Args:
        layer: A layer with `smooth`.
        slope: Steepness of what stands in for a step; the larger, the closer to it.
        widen: How many times as wide kernels are; 1 is as they are.
        exact_forward: Give what the layer itself gives, with the gradient of its smooth version (BPDA).

    Example:

    >>> hard = td.layers.QuantizedReLU(thresholds=[1.0])
    >>> [round(float(code), 2) for code in Differentiable(hard, slope=2.0)(np.array([[0.0, 1.0, 3.0]]))[0]]
    [0.12, 0.5, 0.98]
    >>> [round(float(code), 2) for code in Differentiable(hard, exact_forward=True)(np.array([[0.0, 1.0, 3.0]]))[0]]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, layer: Any, slope: float = 10.0, widen: float = 1.0, exact_forward: bool = False, **kwargs: Any):
        kwargs = with_new_names(kwargs, straight_through="exact_forward")
        exact_forward = kwargs.pop("exact_forward", exact_forward)
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trainable", False)
        if not hasattr(layer, "smooth"):
            raise ValueError(f"Expected a layer with `smooth(inputs, slope, widen)`. Received a {type(layer).__name__}.")
        super().__init__(layer, **kwargs)
        self.exact_forward = exact_forward
        self._first = {"slope": slope, "widen": widen}
        for name, value in self._first.items():
            check_smoothness(name, value)

    def build(self, input_shape=None):
        super().build(input_shape)
        self.slope, self.widen = (
            self.add_weight(name=name, shape=(), initializer=keras.initializers.Constant(value), trainable=False)
            for name, value in self._first.items()
        )

    def anneal(self, slope: float, widen: float) -> None:
        """Sets how smooth it is from here on."""
        for name, value in (("slope", slope), ("widen", widen)):
            check_smoothness(name, value)
            getattr(self, name).assign(value)

    def call(self, inputs):
        smooth = self.layer.smooth(inputs, self.slope, self.widen)
        if self.exact_forward:
            return smooth + ops.stop_gradient(self.layer(inputs) - smooth)
        return smooth

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), **self._first, "exact_forward": self.exact_forward}


def check_smoothness(name, value):
    if not isinstance(value, (int, float, np.number)) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` must be a number above 0. Received: {value!r}.")
