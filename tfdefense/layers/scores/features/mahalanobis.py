from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense.layers.scores.fitted import SingleScore, checked_features, nearest, pooled


@keras.saving.register_keras_serializable(package="tfdefense")
class Mahalanobis(SingleScore):
    """The squared Mahalanobis distance of features to the nearest class mean, with one covariance for all classes.

    Directions in which training samples do not vary within classes are not looked at. Differentiable.

    Call arguments:
        features: What a hidden layer gives; feature maps are averaged over all places.

    Example:

    >>> layer = Mahalanobis()
    >>> layer.adapt(np.array([[-1.0], [1.0], [9.0], [11.0]]), np.array([0, 0, 1, 1]))
    >>> [float(score) for score in layer(np.array([[10.0], [13.0]]))]
    [0.0, 9.0]

    Reference: Lee et al., 2018, A simple unified framework for detecting out-of-distribution samples and adversarial attacks.
    """

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        return {"center": (width,), "whitening": (width, 1), "means": (1, 1)}

    def call(self, features):
        rows = pooled(features)
        centered = rows - self.held["center"]
        whitened = ops.matmul(centered, self.held["whitening"])
        means = ops.convert_to_tensor(self.held["means"])
        place = nearest(whitened, means, ops.sum(ops.square(means), axis=-1))
        distance = ops.sum(ops.square(whitened - ops.take(means, place, axis=0)), axis=-1)
        return self.until_adapted(distance - self.background(centered), rows)

    def background(self, centered):
        """What is taken off the distance."""
        return 0.0

    def adapt(self, features: ArrayLike, labels: ArrayLike) -> None:
        """Stores the means and what the covariance makes of differences.

        Args:
            features: Array of shape (samples, ...).
            labels: Class of each, whole numbers.
        """
        features, labels = checked_features(features, labels, least=2)
        if not self.built:
            self.build(features.shape)
        center = features.mean(0)
        centered = features - center
        classes, owner = np.unique(labels, return_inverse=True)
        means = np.stack([centered[owner == number].mean(0) for number in range(len(classes))])
        whitening = self._whitening(centered - means[owner])
        state = {"center": center, "whitening": whitening, "means": means @ whitening} | self.more(centered)
        self.keep(**{name: value.astype("float32") for name, value in state.items()})

    def more(self, centered: np.ndarray) -> dict[str, np.ndarray]:
        """What else is to be kept, from features around their mean."""
        return {}

    def _whitening(self, differences):
        """The matrix that gives differences unit covariance: its product with its transpose is the pseudo-inverse of theirs."""
        values, vectors = np.linalg.eigh(differences.T @ differences / len(differences))
        # As scikit-learn's EmpiricalCovariance on float32: what is below is rounding.
        kept = values > len(values) * np.finfo("float32").eps * values[-1]
        if not kept.any():
            raise ValueError(
                f"Layer '{self.name}' can't measure distances: training samples of a class do not differ in the features that it "
                "watches. Check the samples and the network, or watch another layer."
            )
        return vectors[:, kept] / np.sqrt(values[kept])
