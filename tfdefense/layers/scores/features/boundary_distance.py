from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense.layers.scores.features.head import HeadScore
from tfdefense.layers.scores.fitted import length, pooled


@keras.saving.register_keras_serializable(package="tfdefense")
class BoundaryDistance(HeadScore):
    """fDBD: minus the distances of the features to the decision boundaries, summed over all other classes.

    They are counted in distances from the mean of the training features. Differentiable.

    Call arguments:
        features: What the last Dense layer takes.
        scores: What it gives.

    Example:

    >>> layer, z = BoundaryDistance(), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> layer.adapt((z, z), np.array([0, 1]), head=(np.eye(2), np.zeros(2)))
    >>> [float(score) for score in layer(np.array([[1.5, -0.5], [9.0, 9.0]]), np.array([[1.5, -0.5], [9.0, 9.0]]))]
    [-1.0, -0.0]

    Reference: Liu and Qin, 2024, Fast decision boundary based out-of-distribution detector.
    """

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        return {"center": (width,), "apart": (classes, classes)}

    def call(self, features, scores):
        rows = pooled(features)
        values, places = ops.top_k(scores, 1)
        gaps = (values - scores) / ops.take(self.held["apart"], places[:, 0], axis=0)
        return self.until_adapted(-ops.sum(gaps, axis=-1) / length(rows - self.held["center"]), rows)

    def fitted(self, features: np.ndarray, scores: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
        apart = np.linalg.norm(kernel.T[:, None] - kernel.T, axis=-1)
        # A class has no boundary with itself, nor with one of the same weights: their scores do not differ.
        return {"center": features.mean(0), "apart": np.where(apart > 1e-6 * apart.max(), apart, 1.0)}
