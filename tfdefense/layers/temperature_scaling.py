from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense.layers.adaptable import AdaptableLayer


@keras.saving.register_keras_serializable(package="tfdefense")
class TemperatureScaling(AdaptableLayer):
    """Divides class scores by one temperature, at which their softmax gives the held-out classes the highest likelihood.

    No class changes, only how sure the model says that it is: a network that is right 95 times of 100 where it says 99 % gets a
    temperature above 1. Always active; the gradient is that of a division. Until it is adapted, all scores are NaN.

    Fit it on samples that the network was not trained on: on those that it has
    seen it is too sure of itself.

    Call arguments:
        scores: Class scores (logits), shape (batch, classes).

    Example:

    >>> layer = TemperatureScaling()
    >>> scores = np.array([[9.0, 0.0]] * 4)
    >>> layer.adapt(scores, np.array([0, 0, 0, 1])); round(float(layer.temperature), 2)
    8.19
    >>> keras.ops.softmax(layer(scores)).numpy()[0].round(2).tolist()
    [0.75, 0.25]

    Reference: Guo et al., 2017, On calibration of modern neural networks.
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape):
        super().build(input_shape)
        nan = keras.initializers.Constant(float("nan"))
        self.temperature = self.add_weight(name="temperature", shape=(), initializer=nan, trainable=False, dtype="float32")

    def call(self, scores):
        return ops.cast(scores, "float32") / self.temperature

    def compute_output_shape(self, input_shape):
        return input_shape

    def adapt(self, features: Any, labels: Any) -> None:
        """Fits the temperature to class scores and true classes, by the mean log-likelihood."""
        from scipy.optimize import minimize_scalar
        from scipy.special import logsumexp

        scores, labels = np.asarray(features, "float64"), np.asarray(labels)
        finite = np.isfinite(scores).all(axis=1)
        scores, labels = scores[finite], labels[finite]
        if not len(scores) or np.ptp(scores, axis=1).max() == 0:
            raise ValueError(
                "Expected class scores that differ from class to class. Received none. Check that the model is trained."
            )
        if not self.built:
            self.build(scores.shape)
        scores = scores - scores.max(axis=1, keepdims=True)
        # Steps of the search should not depend on how large the scores are.
        scale = np.mean(-scores.min(axis=1)) or 1.0
        true = scores[np.arange(len(labels)), labels]

        def loss(log_slope):
            slope = np.exp(log_slope)
            return np.mean(logsumexp(slope * scores, axis=1) - slope * true)

        # Convex in the slope, one over the temperature: one valley in its log. Where all is right the valley has no end.
        middle = -np.log(scale)
        found = minimize_scalar(loss, bounds=(middle - 7, middle + 7), method="bounded", options={"xatol": 1e-7})
        self.temperature.assign(np.exp(-found.x))
