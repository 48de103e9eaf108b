"""Rectified confidence: the confidence times what a trained head makes of it."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.finite import unless_finite
from tfdefense.layers.scores.fitted import pooled
from tfdefense.layers.scores.score import log_shares


@keras.saving.register_keras_serializable(package="tfdefense")
class Rectifier(keras.layers.Layer):
    """A small network on the last features: the log-odds that the confidence of the classifier is deserved.

    Two dense layers, on feature maps after their mean over all places. Differentiable; trained by `td.RectifiedTraining`.

    Args:
        width: Units of the hidden layer.
        seed: Of the first weights; None draws them anew each time.

    Example:

    >>> Rectifier(width=8, seed=0)(np.zeros((5, 32), "float32")).shape
    TensorShape([5])

    Reference: Pang et al., 2022, Two coupled rejection metrics can tell adversarial examples apart.
    """

    def __init__(self, width: int = 64, seed: int | None = None, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_number("width", width, low=1, whole=True)
        self.width, self.seed = int(width), seed

    def build(self, input_shape):
        if len(input_shape) < 2 or input_shape[-1] is None:
            raise ValueError(
                f"A rectifier takes features of a known width, shape (batch, ..., width). Received shape {tuple(input_shape)}."
            )
        seeds = (None, None) if self.seed is None else (self.seed, self.seed + 1)
        first, last = (keras.initializers.GlorotUniform(seed) for seed in seeds)
        options = {"dtype": self.dtype_policy}
        self.hidden = keras.layers.Dense(self.width, "relu", kernel_initializer=first, name="hidden", **options)
        self.head = keras.layers.Dense(1, kernel_initializer=last, name="log_odds", **options)
        self.hidden.build((input_shape[0], input_shape[-1]))
        self.head.build((input_shape[0], self.width))

    def call(self, features):
        odds = self.head(self.hidden(pooled(ops.cast(features, "float32"))))
        return unless_finite(odds[:, 0], features)

    def compute_output_shape(self, input_shape):
        return (input_shape[0],)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "seed": self.seed}


@keras.saving.register_keras_serializable(package="tfdefense")
class RectifiedConfidence(keras.layers.Layer):
    """The log of 1 minus the confidence times the rectifier's probability. Differentiable.

    It goes on where a float32 confidence is stuck at 1. Where the rectifier is sure it equals `Confidence`.

    Call arguments:
        odds: Log-odds of a `Rectifier`, shape (batch,).
        scores: Class scores, shape (batch, classes).

    Example:

    >>> odds, scores = np.array([50.0, 0.0]), np.array([[5.0, 0.0], [5.0, 0.0]])
    >>> [round(float(score), 2) for score in RectifiedConfidence()(odds, scores)]
    [-5.01, -0.69]
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, odds, scores):
        return log_rectified(odds, scores)[1]

    def compute_output_shape(self, odds_shape, scores_shape):
        return odds_shape


def log_rectified(odds, scores):
    """The logarithms of confidence times probability, and of 1 minus that."""
    best, _, others = log_shares(scores)
    # 1 - ca = (1 - c) + c (1 - a), each of which has an exact logarithm. Not logaddexp: the ONNX converter knows no log1p.
    rest = ops.logsumexp(ops.stack([others, best + ops.log_sigmoid(-odds)], axis=-1), axis=-1)
    return best + ops.log_sigmoid(odds), rest
