"""Statistics of class scores that grow with doubt (row R2: confidence and non-ME; the dustbin of row O1)."""

import keras
from keras import ops


class _ScoreStatistic(keras.layers.Layer):
    """A number a sample, computed in float32 from class scores."""

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def compute_output_shape(self, input_shape):
        return input_shape[:1]


def _without_best(scores):
    """The scores with the best one pushed to where softmax gives it nothing."""
    best = ops.one_hot(ops.top_k(scores, 1)[1][:, 0], scores.shape[-1], dtype=scores.dtype)
    return scores - 1e9 * best


@keras.saving.register_keras_serializable(package="tfdefense")
class Confidence(_ScoreStatistic):
    """Doubt by confidence: the log of the probability that softmax leaves to all classes but the best.

    It orders samples exactly as 1 - confidence does, but goes on where a float32 confidence is stuck at 1. Differentiable.

    Example:

    >>> [round(float(doubt), 2) for doubt in Confidence()(np.array([[5.0, 0.0], [0.1, 0.0]]))]
    [-5.01, -0.74]

    Reference: Hendrycks and Gimpel, 2017, A baseline for detecting misclassified and out-of-distribution examples.
    """

    def call(self, scores):
        return ops.logsumexp(_without_best(scores), axis=-1) - ops.logsumexp(scores, axis=-1)


@keras.saving.register_keras_serializable(package="tfdefense")
class BestScore(_ScoreStatistic):
    """Doubt by the scores themselves: minus the best of them. For scores that fall off away from the data, as RBF machines' do.

    Example:

    >>> BestScore()(np.array([[0.5, -1.0]])).numpy()
    array([-0.5], dtype=float32)

    Reference: Melis et al., 2017, Is deep learning safe for robot vision? Adversarial examples against the iCub humanoid.
    """

    def call(self, scores):
        return -ops.max(scores, axis=-1)


@keras.saving.register_keras_serializable(package="tfdefense")
class NonMaximalEntropy(_ScoreStatistic):
    """Doubt by non-ME: minus the entropy of the probabilities of all classes but the best, normalised among themselves.

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
        log_share = ops.log_softmax(_without_best(scores), axis=-1)
        return ops.sum(ops.exp(log_share) * log_share, axis=-1)


@keras.saving.register_keras_serializable(package="tfdefense")
class Dustbin(keras.layers.Layer):
    """Splits classes + 1 scores into class scores and a doubt: the last score, the dustbin's, against the best class.

    Always active. Above 0 the dustbin wins, which is the paper's decision. Differentiable.

    Example:

    >>> scores, doubt = Dustbin()(np.array([[4.0, 1.0, 6.0]]))
    >>> float(doubt[0])
    2.0

    Reference: Abbasi et al., 2018, Towards dependable deep convolutional neural networks with out-distribution learning.
    """

    def __init__(self, **kwargs):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def build(self, input_shape):
        if input_shape[-1] < 3:
            raise ValueError(
                "Expected the scores of at least 2 classes and the dustbin, so 3 or more. "
                f"Received {input_shape[-1]} scores. Give the last Dense layer one unit more than there are classes."
            )

    def call(self, scores):
        classes = scores[:, :-1]
        return classes, scores[:, -1] - ops.max(classes, axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[-1] - 1), (input_shape[0],)
