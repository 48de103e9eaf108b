from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.scores.features.head import HeadScore
from tfdefense.layers.scores.fitted import length, pooled


@keras.saving.register_keras_serializable(package="tfdefense")
class VirtualLogit(HeadScore):
    """ViM: the length of the features outside their principal subspace, scaled to a class score, less log-sum-exp of the scores.

    The subspace is that of the training samples, around the point at which all class scores are 0. Differentiable.

    Args:
        components: Dimensions of the subspace. None takes the paper's: 1,000 above a width of 1,500, else 512, and at most half.

    Call arguments:
        features: What the last Dense layer takes.
        scores: What it gives.

    Example:

    >>> layer, z = VirtualLogit(components=1), np.array([[4.0, 1.0], [-4.0, 1.0], [4.0, -1.0]])
    >>> layer.adapt((z, z), np.array([0, 1, 0]), head=(np.eye(2), np.zeros(2)))
    >>> np.asarray(layer(np.array([[4.0, 0.0], [0.0, 4.0]]), np.zeros((2, 2)))).round(1)
    array([ 0.5, 12.9], dtype=float32)

    Reference: Wang et al., 2022, ViM: out-of-distribution with virtual-logit matching.
    """

    def __init__(self, components: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if components is not None:
            check_number("components", components, 1, whole=True)
        self.components = components

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        if self.components is not None and self.components >= width:
            raise ValueError(f"`components` must be below the {width} features of a sample. Received: {self.components}.")
        return {"origin": (width,), "outside": (width, 1)}

    def call(self, features, scores):
        rows = pooled(features)
        virtual = length(ops.matmul(rows - self.held["origin"], self.held["outside"]))
        return self.until_adapted(virtual - ops.logsumexp(scores, axis=-1), rows)

    def fitted(self, features: np.ndarray, scores: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
        origin = -np.linalg.pinv(kernel.T) @ bias
        moved = features - origin
        _, vectors = np.linalg.eigh(moved.T @ moved / len(moved))
        # In increasing order: the last are the principal ones.
        outside = vectors[:, : features.shape[1] - self._components(features.shape[1])]
        lengths = np.linalg.norm(moved @ outside, axis=1).mean()
        if not lengths > 0:
            raise ValueError(
                f"Layer '{self.name}' finds no training features outside their principal subspace. Give fewer `components`."
            )
        # One factor for the scale: alpha times the length is the length of alpha times the vector.
        return {"origin": origin, "outside": outside * scores.max(1).mean() / lengths}

    def _components(self, width):
        return self.components or min(1000 if width > 1500 else 512, width // 2)

    def get_config(self):
        return {**super().get_config(), "components": self.components}
