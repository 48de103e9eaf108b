from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._validation import Tensor
from tfdefense.layers import svm_fits
from tfdefense.layers.rbf_svm import RBFSVM


@keras.saving.register_keras_serializable(package="tfdefense", name="MatchedMachines")
class ClasswiseDetectorSVM(RBFSVM):
    """For each class a `DetectorSVM`, fitted on the samples of that predicted class; a sample gets the score of its own class.

    What is normal among the codes of a seven need not be so among those of an eight. Takes the features and the class scores.
    Always active, differentiable in its features; NaN until `adapt` has fitted it on clean (0) and adversarial (1) samples. A
    class of which no adversarial sample is known gives -1, one of which no clean one is known 1.

    Args:
        groups: Number of classes.
        C, gamma, folds, search, max_memory, vectors: As for `DetectorSVM`, the same for all SVMs; `search` chooses
            what suits one SVM for all classes best.

    Example:

    >>> layer = ClasswiseDetectorSVM(groups=2, C=10.0)
    >>> features, scores = np.array([[0.0], [1.0], [0.0], [1.0]]), np.eye(2)[[0, 0, 1, 1]]
    >>> layer.adapt([features, scores], np.array([0, 1, 1, 0]))
    >>> (layer([features, scores]).numpy() > 0).tolist()
    [False, True, True, False]
    """

    needs_adversarial = True
    takes_pairs = True
    _former_name = "matched_machines"

    def __init__(self, groups: int, **kwargs: Any):
        if not isinstance(groups, (int, np.integer)) or isinstance(groups, bool) or groups < 2:
            raise ValueError(f"`groups` must be a whole number of at least 2, the classes. Received: {groups!r}.")
        self.groups = int(groups)
        super().__init__(2, **kwargs)
        if self.cross_validated:
            raise ValueError("A ClasswiseDetectorSVM has no cross-validated scores. Leave `cross_validated` out.")

    @property
    def svms(self) -> int:
        return self.groups

    def build(self, input_shape):
        super().build(input_shape[0])

    def call(self, inputs):
        return self._own(inputs, self.log_gamma)

    def smooth(self, inputs: Tensor, slope: float, widen: float) -> Tensor:
        return self._own(inputs, self.log_gamma - 2.0 * ops.log(widen))

    def _own(self, inputs, log_gamma):
        """The decision value of the SVM of the class with the largest score."""
        features, scores = inputs
        # The index of the largest, in a form that every export knows.
        own = ops.one_hot(ops.top_k(scores, 1)[1][:, 0], self.groups, dtype=self.compute_dtype)
        return ops.sum(own * self._scores(features, log_gamma), -1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0],)

    def adapt(
        self,
        inputs: Any,
        labels: ArrayLike,
        C: float | None = None,
        gamma: float | str | None = None,
        pairs: ArrayLike | None = None,
    ) -> None:
        """Fits the SVMs on features and class scores of clean (0) and adversarial (1) samples; `pairs` as for a `DetectorSVM`."""
        features, scores = (np.asarray(part) for part in inputs)
        if scores.shape != (len(features), self.groups):
            raise ValueError(f"Expected class scores of shape ({len(features)}, {self.groups}). Received shape {scores.shape}.")
        if not self.built:
            self.build([features.shape, scores.shape])
        self._predicted = scores.argmax(1)
        super().adapt(features, labels, C, gamma, pairs)

    def _fit(self, kernel, labels):
        coefficients, intercepts = np.zeros((len(labels), self.groups)), np.ones(self.groups)
        predicted = self._predicted if self._rows is None else self._predicted[self._rows]
        for group in range(self.groups):
            rows = np.flatnonzero(predicted == group)
            if len(set(labels[rows])) == 2:
                columns, values = svm_fits.fit(kernel[np.ix_(rows, rows)], labels[rows], 2, self.C)
                coefficients[rows, group], intercepts[group] = columns[:, 1], values[1]
            elif len(rows) and labels[rows[0]] == 0:
                intercepts[group] = -1.0
        return coefficients, intercepts

    def _taken_for(self, scores, rows):
        return scores[np.arange(len(rows)), self._predicted[rows]] > 0

    def compress(self, vectors: int, features: Any = None, scores: Any = None) -> None:
        # `scores` are left out: of one SVM a sample they say nothing of the others, which keep what they give now.
        super().compress(vectors, features[0] if isinstance(features, (list, tuple)) else features)

    def get_config(self):
        config = super().get_config()
        del config["classes"]
        return config | {"groups": self.groups}
