"""What detector scores share that are computed from class scores."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class DetectorScore(keras.layers.Layer):
    """A detector score, one number a sample, computed in float32 from class scores. It grows with suspicion."""

    takes = ("scores",)

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def compute_output_shape(self, input_shape):
        return input_shape[:1]


def without_best(scores):
    """The scores with the best one pushed to where softmax gives it nothing."""
    best = ops.one_hot(ops.top_k(scores, 1)[1][:, 0], scores.shape[-1], dtype=scores.dtype)
    return scores - 1e9 * best


def log_shares(scores):
    """Log probabilities: of the best class, of each other one (next to nothing in place of the best), and of all others together.

    The last is exact where the best class has all but a little.
    """
    others = without_best(scores)
    all_together = ops.logsumexp(scores, axis=-1)
    best = ops.max(scores, axis=-1) - all_together
    return best, others - ops.expand_dims(all_together, -1), ops.logsumexp(others, axis=-1) - all_together
