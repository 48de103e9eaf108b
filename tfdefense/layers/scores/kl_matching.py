from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense.layers.scores.fitted import SingleScore, checked_features


@keras.saving.register_keras_serializable(package="tfdefense")
class KLMatching(SingleScore):
    """KL matching: how far the class probabilities are from the nearest of those that are typical, one row for each class.

    Typical of a class is the mean of the probabilities of all samples that the network gives to it; the distance is the
    Kullback-Leibler divergence of the sample's from these. A class that the network gave to no sample has none. Differentiable;
    where a softmax is sure, the gradient vanishes as the divergence stays as it is.

    Call arguments:
        scores: Class scores.

    Example:

    >>> layer = KLMatching()
    >>> layer.adapt(np.array([[2.0, 0.0], [0.0, 2.0]]), np.array([0, 1]))
    >>> [round(float(score), 3) for score in layer(np.array([[1.0, 0.0], [0.0, 0.0]]))]
    [0.083, 0.434]

    Reference: Hendrycks et al., 2022, Scaling out-of-distribution detection for real-world settings.
    """

    takes = ("scores",)

    def blank(self, width: int, classes: int | None) -> dict[str, Sequence[Any]]:
        return {"log_typical": (1, width)}

    def build(self, scores_shape):
        super().build(scores_shape)

    def call(self, scores):
        log_share = ops.log_softmax(scores, axis=-1)
        share = ops.exp(log_share)
        own = ops.sum(share * log_share, axis=-1, keepdims=True)
        divergence = own - ops.matmul(share, ops.transpose(self.held["log_typical"]))
        return self.until_adapted(ops.min(divergence, axis=-1), scores)

    def compute_output_shape(self, scores_shape):
        return scores_shape[:1]

    def adapt(self, scores: ArrayLike, labels: ArrayLike) -> None:
        """Stores what is typical.

        Args:
            scores: Class scores, shape (samples, classes).
            labels: Not looked at: the network's own decisions count.
        """
        from scipy.special import log_softmax, logsumexp

        scores, _ = checked_features(scores, labels, name="scores")
        if not self.built:
            self.build(scores.shape)
        log_share, taken = log_softmax(scores, axis=-1), scores.argmax(-1)
        rows = [logsumexp(log_share[taken == c], axis=0) - np.log(np.sum(taken == c)) for c in np.unique(taken)]
        self.keep(log_typical=np.stack(rows).astype("float32"))
