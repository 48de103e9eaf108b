from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._validation import Tensor
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.finite import unless_finite


@keras.saving.register_keras_serializable(package="tfdefense")
class QuantizedReLU(AdaptableLayer):
    """Turns activations into discrete codes: for each unit the number of its thresholds that it exceeds, 0 to levels - 1.

    Always active; NaN until it has thresholds. Its gradient is zero everywhere; who attacks it puts a sum of sigmoids in its
    place, see `smooth` and `td.differentiable`.

    Args:
        thresholds: Increasing: numbers for all units, or for each an array of shape (levels - 1, units...). By default `adapt`
            sets those of each unit to quantiles of its positive activations, with two levels their median. A unit that was
            never active gets the mean thresholds of the others.
        levels: Codes that a unit may have: 2 are binary, 4 quaternary.

    Example:

    >>> QuantizedReLU([0.0, 1.0, 2.0])(np.array([[-1.0, 0.5, 1.5, 9.0]])).numpy().tolist()
    [[0.0, 1.0, 2.0, 3.0]]

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly.
    """

    def __init__(self, thresholds: Sequence[float] | None = None, levels: int | None = None, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trainable", False)
        super().__init__(**kwargs)
        given = None if thresholds is None else np.asarray(thresholds, "float32")
        if given is not None and (given.ndim == 0 or not np.isfinite(given).all() or (np.diff(given, axis=0) <= 0).any()):
            raise ValueError(
                f"`thresholds` must be increasing numbers, such as [0.5, 1.0, 2.0]. Received: {thresholds!r}. "
                "For thresholds that `adapt` finds, say how many codes: `levels=4`."
            )
        if levels is None:
            levels = 2 if given is None else len(given) + 1
        if not isinstance(levels, (int, np.integer)) or isinstance(levels, bool) or levels < 2:
            raise ValueError(f"`levels` must be a whole number of at least 2, such as 4 (quaternary). Received: {levels!r}.")
        if given is not None and len(given) != levels - 1:
            raise ValueError(f"Expected one threshold less than levels. Received {len(given)} for `levels={levels}`.")
        self.levels = int(levels)
        self.thresholds = None if given is None else given.tolist()

    def build(self, input_shape):
        super().build(input_shape)
        units = tuple(input_shape[1:])
        if not units or None in units:
            raise ValueError(f"Expected activations of a known size, shape (batch, ...). Received shape {tuple(input_shape)}.")
        shape = (self.levels - 1, *units)
        self.values = self.add_weight(
            name="thresholds", shape=shape, initializer=keras.initializers.Constant(float("nan")), trainable=False
        )
        if self.thresholds is not None:
            given = np.asarray(self.thresholds, "float32")
            given = given.reshape((-1,) + (1,) * len(units)) if given.ndim == 1 else given
            if given.ndim != len(shape) or any(own not in (1, unit) for own, unit in zip(given.shape[1:], units, strict=True)):
                raise ValueError(f"Expected thresholds of shape {shape} for these units. Received shape {given.shape}.")
            self.values.assign(np.broadcast_to(given, shape))
            self.mark_adapted()

    def call(self, activations):
        code = 0.0
        for number in range(self.levels - 1):
            # The second term is 0, or NaN while there is no threshold.
            code += ops.cast(activations > self.values[number], self.compute_dtype) + 0.0 * self.values[number]
        return unless_finite(code, activations)

    def smooth(self, activations: Tensor, slope: float, widen: float) -> Tensor:
        """The code with a sigmoid for each step: `slope` is its steepness in units of the mean threshold."""
        size = ops.mean(ops.abs(self.values))
        slope = slope / ops.where(size > 0, size, ops.ones_like(size))
        return sum(ops.sigmoid(slope * (activations - self.values[number])) for number in range(self.levels - 1))

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def adapt(self, features: ArrayLike, labels: Any = None) -> None:
        """Sets the thresholds of each unit to equally spaced quantiles of its positive activations.

        Nothing changes where the thresholds were given.
        """
        features = np.asarray(features, "float32")
        if features.ndim < 2 or len(features) == 0 or not np.isfinite(features).all():
            raise ValueError(f"Expected finite activations of shape (samples, ...). Received shape {features.shape}.")
        if not self.built:
            self.build((None, *features.shape[1:]))
        if self.thresholds is None:
            units = features.reshape(len(features), -1)
            found = np.full((self.levels - 1, units.shape[1]), np.nan, "float32")
            shares = np.arange(1, self.levels) / self.levels
            for unit, column in enumerate(units.T):
                active = column[column > 0]
                if len(active):
                    found[:, unit] = np.quantile(active, shares)
            silent = np.isnan(found[0])
            # Not 0: there a sigmoid says one half of a unit that is still silent, far from the code.
            usual = found[:, ~silent].mean(1) if not silent.all() else np.arange(1, self.levels)
            found[:, silent] = usual[:, None]
            self.values.assign(found.reshape(self.values.shape))
        self.mark_adapted()

    def get_config(self):
        return {**super().get_config(), "levels": self.levels, "thresholds": self.thresholds}
