from __future__ import annotations

from typing import Any

import keras
from keras import ops
from numpy.typing import ArrayLike

from tfdefense.layers.scores.features.reference_set import ReferenceScore, unit_rows
from tfdefense.layers.scores.fitted import SingleScore, checked_features, nearest


@keras.saving.register_keras_serializable(package="tfdefense")
class NearestNeighbors(ReferenceScore, SingleScore):
    """KNN: the squared distance of the direction of the features to the k-th nearest among training samples.

    Differentiable: the gradient leads to that neighbour. With `components` the distance within the principal subspace counts, and
    the lengths of what is outside, as if these were at right angles.

    Args:
        k: The neighbour that counts; the paper has 50 for CIFAR-10 and 1,000 for ImageNet, each among all training samples.
        max_points: Training samples that are stored at most, an equal share of each class, drawn at random. With fewer of them
            a smaller `k` means the same: a tenth of the samples, a tenth of `k`.
        components: Principal components that are stored of each, in place of all features: less memory and time. None is all.
        storage: "float32", "float16" or "int8": 4 bytes, 2 or 1 for each number. Sums are in float32 with each.
        seed: Of the draw.

    Call arguments:
        features: What a hidden layer gives; feature maps are averaged over all places.

    Example:

    >>> layer = NearestNeighbors(k=1)
    >>> layer.adapt(np.array([[3.0, 0.0], [0.0, 3.0]]), np.array([0, 1]))
    >>> [round(float(score), 2) for score in layer(np.array([[5.0, 0.0], [-1.0, 0.0]]))]
    [0.0, 2.0]
    >>> layer.memory  # two points of two numbers and a scale, the mean, two lengths
    36

    Reference: Sun et al., 2022, Out-of-distribution detection with deep nearest neighbors.
    """

    centered = True

    def __init__(
        self,
        k: int = 50,
        max_points: int = 10_000,
        components: int | None = None,
        storage: str = "float32",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(k, max_points, components, storage, seed, **kwargs)

    def call(self, features):
        rows = self.directions(features) - self.held["center"]
        inside, points, offsets = rows, self.stored_points(), ops.convert_to_tensor(self.held["offsets"])
        if self.components is not None:
            inside = ops.matmul(rows, self.held["basis"])
        place = nearest(inside, points, offsets, self.k)
        neighbour = ops.take(points, place, axis=0)
        distance = ops.sum(ops.square(inside - neighbour), axis=-1)
        if self.components is not None:
            outside = rows - ops.matmul(inside, ops.transpose(self.held["basis"]))
            rest = ops.take(offsets, place, axis=0) - ops.sum(ops.square(neighbour), axis=-1)
            distance = distance + ops.sum(ops.square(outside), axis=-1) + ops.maximum(rest, 0.0)
        return self.until_adapted(distance, rows)

    def adapt(self, features: ArrayLike, labels: ArrayLike) -> None:
        """Stores the directions of training samples.

        Args:
            features: Array of shape (samples, ...).
            labels: Class of each, whole numbers: of more samples than there is room for, each class keeps an equal share.
        """
        features, labels = checked_features(features, labels, least=2)
        if not self.built:
            self.build(features.shape)
        rows = unit_rows(features)
        self.store(rows[self.draw(labels)], rows)
