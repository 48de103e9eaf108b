from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense.layers.rbf_svm import RBFSVM


@keras.saving.register_keras_serializable(package="tfdefense", name="AdversaryMachine")
class DetectorSVM(RBFSVM):
    """One RBF-SVM that tells adversarial samples from clean ones: its decision value, above 0 for adversarial.

    Always active, differentiable in its features; NaN until `adapt` has fitted it on clean (0) and adversarial (1) samples,
    which `td.adapt` hands to it. Far from all of them it gives its intercept.

    Cross-validation leaves a clean sample and all that was made of it out together: `adapt` then needs `pairs`, which `td.adapt`
    hands to it too.

    Args:
        C, gamma, folds, cross_validated, search, max_memory, vectors: See `td.layers.RBFSVM`. The paper's width sigma is
            gamma = 1 / (2 sigma²).

    Example:

    >>> layer = DetectorSVM(C=10.0)
    >>> layer.adapt(np.array([[0.0], [0.2], [0.8], [1.0]]), np.array([0, 0, 1, 1]))
    >>> (layer(np.array([[0.1], [0.9]])).numpy() > 0).tolist()
    [False, True]

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly, eq. 1.
    """

    needs_adversarial = True
    takes_pairs = True
    _former_name = "adversary_machine"

    def __init__(self, classes: int = 2, **kwargs: Any):
        if classes != 2:
            raise ValueError(f"A DetectorSVM tells two kinds of samples apart. Received: classes={classes!r}. Leave it out.")
        super().__init__(2, **kwargs)

    def _scores(self, features, log_gamma):
        return super()._scores(features, log_gamma)[:, 1]

    def _of_all_svms(self, scores):
        return np.stack([-scores, scores], 1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0],)

    def adapt(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        C: float | None = None,
        gamma: float | str | None = None,
        pairs: ArrayLike | None = None,
    ) -> np.ndarray | None:
        """Fits the SVM; gives back the cross-validated decision values if the layer is `cross_validated`."""
        scores = super().adapt(features, labels, C, gamma, pairs)
        return None if scores is None else scores[:, 1]
