import keras
from keras import ops

from tfdefense.layers.scores.score import DetectorScore, without_best


@keras.saving.register_keras_serializable(package="tfdefense")
class Confidence(DetectorScore):
    """The score confidence: the log of the probability that softmax leaves to all classes but the best.

    It orders samples exactly as 1 - confidence does, but goes on where a float32 confidence is stuck at 1. Differentiable.

    Example:

    >>> [round(float(score), 2) for score in Confidence()(np.array([[5.0, 0.0], [0.1, 0.0]]))]
    [-5.01, -0.74]

    Reference: Hendrycks and Gimpel, 2017, A baseline for detecting misclassified and out-of-distribution examples.
    """

    def call(self, scores):
        return ops.logsumexp(without_best(scores), axis=-1) - ops.logsumexp(scores, axis=-1)
