from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense.layers.scores.features.shaping import check_percentile
from tfdefense.layers.scores.fitted import SingleScore, checked_features


@keras.saving.register_keras_serializable(package="tfdefense")
class ReAct(SingleScore):
    """Cuts features off at a value that few of the training samples' exceed. The energy of the class scores of what is left is the
    detector score: `td.ThresholdDefense("react")`.

    Differentiable almost everywhere. Units that are cut off have no gradient, and where all active ones are, neither has the
    sample: `smooth` rounds the corner off, for attacks.

    Args:
        percentile: The share of the training samples' features, in percent, that stays as it is.

    Example:

    >>> layer = ReAct(percentile=50)
    >>> layer.adapt(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0, 1]))
    >>> np.asarray(layer(np.array([[1.0, 9.0]])))
    array([[1. , 1.5]], dtype=float32)

    Reference: Sun et al., 2021, ReAct: out-of-distribution detection with rectified activations.
    """

    shapes_features = True
    has_slope = True

    def __init__(self, percentile: float = 90.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_percentile(percentile)
        self.percentile = float(percentile)

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        return {"most": ()}

    def call(self, features):
        return self.until_adapted(ops.minimum(features, self.held["most"]), features)

    def smooth(self, features: Any, slope: float, widen: float) -> Any:
        """The features with the corner rounded off: `slope` is its sharpness in units of the value at which they are cut off."""
        most = ops.convert_to_tensor(self.held["most"])
        sharpness = slope / ops.maximum(ops.abs(most), 1e-6)
        return self.until_adapted(most - ops.softplus(sharpness * (most - features)) / sharpness, features)

    def compute_output_shape(self, features_shape):
        return features_shape

    def adapt(self, features: ArrayLike, labels: ArrayLike) -> None:
        """Chooses where to cut.

        Args:
            features: Array of shape (samples, width).
            labels: Not looked at.
        """
        features, _ = checked_features(features, labels)
        if not self.built:
            self.build(features.shape)
        self.keep(most=np.asarray(np.percentile(features, self.percentile), "float32"))

    def get_config(self):
        return {**super().get_config(), "percentile": self.percentile}
