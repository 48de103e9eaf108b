from __future__ import annotations

from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from tfdefense.layers.scores.features.reference_set import ReferenceScore, unit_rows
from tfdefense.layers.scores.fitted import PairScore, checked_features


@keras.saving.register_keras_serializable(package="tfdefense")
class NeighborGuidance(ReferenceScore, PairScore):
    """NNGuide: minus the log-sum-exp of the class scores times how near the features are to those of sure training samples.

    Nearness is the mean of the k largest inner products of the direction of the features with those of training samples, each
    times the log-sum-exp of its own scores. Differentiable. Made for networks whose log-sum-exp is above 0, as it is where classes
    are told apart with confidence.

    Args:
        k: Training samples that count; the paper has 10, OpenOOD 100.
        max_points: Training samples that are stored at most, an equal share of each class, drawn at random.
        components: Principal components that are stored of each, in place of all features: less memory and time. None is all.
        storage: "float32", "float16" or "int8": 4 bytes, 2 or 1 for each number. Sums are in float32 with each.
        seed: Of the draw.

    Call arguments:
        features: What a hidden layer gives; feature maps are averaged over all places.
        scores: Class scores.

    Example:

    >>> layer = NeighborGuidance(k=1)
    >>> layer.adapt((np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([[3.0, 0.0], [0.0, 3.0]])), np.array([0, 1]))
    >>> [round(float(score), 1) for score in layer(np.array([[5.0, 0.0], [-1.0, -1.0]]), np.array([[5.0, 0.0], [5.0, 0.0]]))]
    [-15.3, 10.8]

    Reference: Park et al., 2023, Nearest neighbor guidance for out-of-distribution detection.
    """

    centered = False

    def __init__(
        self,
        k: int = 10,
        max_points: int = 10_000,
        components: int | None = None,
        storage: str = "float32",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(k, max_points, components, storage, seed, **kwargs)

    def call(self, features, scores):
        rows = self.directions(features)
        inside = rows if self.components is None else ops.matmul(rows, self.held["basis"])
        products = ops.matmul(inside, ops.transpose(self.stored_points()))
        guidance = ops.mean(ops.top_k(products, self.k)[0], axis=-1)
        return self.until_adapted(-guidance * ops.logsumexp(scores, axis=-1), rows)

    def adapt(self, features: tuple[ArrayLike, ArrayLike], labels: ArrayLike) -> None:
        """Stores the directions of training samples, times the log-sum-exp of their scores.

        Args:
            features: The pair (features, scores) that the layer is called with.
            labels: Class of each, whole numbers: of more samples than there is room for, each class keeps an equal share.
        """
        from scipy.special import logsumexp

        rows, scores = features
        rows, labels = checked_features(rows, labels, least=2)
        scores, _ = checked_features(scores, labels, name="scores")
        if not self.built:
            self.build(rows.shape, scores.shape)
        rows = unit_rows(rows) * logsumexp(scores, axis=1, keepdims=True)
        self.store(rows[self.draw(labels)], rows)
