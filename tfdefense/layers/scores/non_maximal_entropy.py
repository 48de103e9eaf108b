import keras
from keras import ops

from tfdefense.layers.scores.score import DetectorScore, without_best


@keras.saving.register_keras_serializable(package="tfdefense")
class NonMaximalEntropy(DetectorScore):
    """The score non-ME: minus the entropy of the probabilities of all classes but the best, normalised among themselves.

    A network trained with reverse cross-entropy spreads these evenly on clean samples. Differentiable. It needs three classes:
    of two, one is left, whose share is always 1.

    Example:

    >>> float(NonMaximalEntropy()(np.array([[9.0, 1.0, 1.0]]))[0])
    -0.693147...

    Reference: Pang et al., 2018, Towards robust detection of adversarial examples.
    """

    def build(self, input_shape):
        if input_shape[-1] < 3:
            raise ValueError(
                f"non-ME needs at least 3 classes. Received {input_shape[-1]}. Use 'confidence', which orders two alike."
            )

    def call(self, scores):
        log_share = ops.log_softmax(without_best(scores), axis=-1)
        return ops.sum(ops.exp(log_share) * log_share, axis=-1)
