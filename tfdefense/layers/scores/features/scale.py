from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense.layers.scores.features.shaping import Shaping


@keras.saving.register_keras_serializable(package="tfdefense")
class Scale(Shaping):
    """SCALE: features times exp(sum of all / sum of the largest). The energy of the class scores of these is the detector score:
    `td.ThresholdDefense("scale")`.

    Differentiable almost everywhere. Features are taken for activations of a ReLU or the like, none of them below 0.

    Args:
        percentile: The share of a sample's features, in percent, that is not among its largest.

    Example:

    >>> np.asarray(Scale(percentile=50)(np.array([[0.0, 0.0, 1.0, 1.0]]))).round(2)
    array([[0.  , 0.  , 2.72, 2.72]], dtype=float32)

    Reference: Xu et al., 2024, Scaling for training time and post-hoc out-of-distribution detection enhancement.
    """

    def __init__(self, percentile: float = 85.0, **kwargs: Any):
        super().__init__(percentile, **kwargs)

    def call(self, features):
        return features * ops.exp(self.ratio(features, self.largest(features)[0]))
