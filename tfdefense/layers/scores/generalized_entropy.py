from typing import Any

import keras
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.scores.score import DetectorScore, log_shares


@keras.saving.register_keras_serializable(package="tfdefense")
class GeneralizedEntropy(DetectorScore):
    """GEN: the sum of p^gamma (1 - p)^gamma over the largest class probabilities p. Differentiable.

    Args:
        gamma: The exponent, above 0. The smaller, the more small probabilities count.
        top: So many of the largest probabilities; the paper has 100 of ImageNet's 1,000. Fewer classes all count.

    Example:

    >>> round(float(GeneralizedEntropy()(np.array([[0.0, 0.0]]))[0]), 4)
    1.7411

    Reference: Liu et al., 2023, GEN: pushing the limits of softmax-based out-of-distribution detection.
    """

    def __init__(self, gamma: float = 0.1, top: int = 100, **kwargs: Any):
        super().__init__(**kwargs)
        check_number("gamma", gamma, above=True)
        check_number("top", top, 1, whole=True)
        self.gamma, self.top = float(gamma), int(top)

    def call(self, scores):
        best, others, rest = log_shares(scores)
        terms = [ops.exp(self.gamma * ops.expand_dims(best + rest, -1))]
        count = min(self.top, scores.shape[-1]) - 1
        if count:
            largest = ops.top_k(others, count)[0]
            # None of these is above one half.
            terms.append(ops.exp(self.gamma * (largest + ops.log(1.0 - ops.minimum(ops.exp(largest), 0.5)))))
        return ops.sum(ops.concatenate(terms, axis=-1), axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma, "top": self.top}
