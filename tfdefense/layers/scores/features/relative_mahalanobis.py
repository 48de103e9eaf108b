from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense.layers.scores.features.mahalanobis import Mahalanobis


@keras.saving.register_keras_serializable(package="tfdefense")
class RelativeMahalanobis(Mahalanobis):
    """RMDS: the Mahalanobis distance to the nearest class mean, less that to the mean of all samples with their covariance.

    Directions that tell no classes apart cancel out. Differentiable.

    Call arguments:
        features: What a hidden layer gives; feature maps are averaged over all places.

    Example:

    >>> layer = RelativeMahalanobis()
    >>> layer.adapt(np.array([[-1.0], [1.0], [9.0], [11.0]]), np.array([0, 0, 1, 1]))
    >>> [round(float(score), 2) for score in layer(np.array([[10.0], [5.0]]))]
    [-0.96, 25.0]

    Reference: Ren et al., 2021, A simple fix to Mahalanobis distance for improving near-OOD detection.
    """

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        return {**super().blank(width, classes), "whitening_of_all": (width, 1)}

    def background(self, centered):
        return ops.sum(ops.square(ops.matmul(centered, self.held["whitening_of_all"])), axis=-1)

    def more(self, centered: np.ndarray) -> dict[str, np.ndarray]:
        return {"whitening_of_all": self._whitening(centered)}
