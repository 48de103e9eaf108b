import keras
from keras import ops

from tfdefense.layers.scores.score import DetectorScore, log_shares


@keras.saving.register_keras_serializable(package="tfdefense")
class Entropy(DetectorScore):
    """The log of the entropy of the class probabilities.

    It orders samples exactly as the entropy does, but goes on where that is 0 in float32. Differentiable.

    Example:

    >>> [round(float(score), 3) for score in Entropy()(np.array([[0.0, 0.0], [200.0, 0.0]]))]
    [-0.367, -194.697]

    Reference: Chan et al., 2021, Entropy maximization and meta classification for out-of-distribution detection in semantic
    segmentation.
    """

    def call(self, scores):
        best, others, rest = log_shares(scores)
        # log(-log p) of the best class: where p is near 1, minus its log is q + q^2/2 + ..., q being what it leaves to the others.
        near = rest + ops.log(1.0 + ops.exp(ops.minimum(rest, -5.0)) / 2 + ops.exp(2 * ops.minimum(rest, -5.0)) / 3)
        far = ops.log(ops.maximum(-best, 1e-3))
        term = best + ops.where(rest < -5.0, near, far)
        # Another class has at most one half: minus its log is never below log 2.
        terms = others + ops.log(ops.maximum(-others, 0.5))
        return ops.logsumexp(ops.concatenate([ops.expand_dims(term, -1), terms], axis=-1), axis=-1)
