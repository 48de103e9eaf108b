"""The joint probability of a class and of being in distribution."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfdefense.layers.finite import unless_finite


@keras.saving.register_keras_serializable(package="tfdefense")
class JointProbability(keras.layers.Layer):
    """Log-probabilities of the classes where a sample may be out of distribution, of which no class is likelier than another.

    p(y | x) = p(in | x) p(y | x, in) + (1 - p(in | x)) / classes. The order of the classes stays. The confidence is at most what
    the discriminator leaves: p(in | x) + (1 - p(in | x)) / classes, whatever the classifier says. Differentiable.

    Call arguments:
        odds: Log-odds of a discriminator for "in distribution", shape (batch, 1) or (batch,).
        scores: Class scores, shape (batch, classes).

    Example:

    >>> joint = JointProbability()(np.array([[0.0], [-50.0]]), np.array([[50.0, 0.0], [50.0, 0.0]]))
    >>> [round(float(share), 2) for share in np.exp(joint)[:, 0]]
    [0.75, 0.5]

    Reference: Meinke et al., 2022, Provably adversarially robust detection of out-of-distribution data (almost) for free.
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, odds, scores):
        odds = ops.reshape(odds, (-1, 1))
        inside = ops.log_softmax(scores, axis=-1) + ops.log_sigmoid(odds)
        outside = ops.log_sigmoid(-odds) - math.log(scores.shape[-1]) + ops.zeros_like(inside)
        # Not logaddexp: the ONNX converter knows no log1p.
        return unless_finite(ops.logsumexp(ops.stack([inside, outside], axis=-1), axis=-1), odds)

    def compute_output_shape(self, odds_shape, scores_shape):
        return scores_shape
