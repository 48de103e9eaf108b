import keras
from keras import ops

from tfdefense.layers.scores.score import DetectorScore


@keras.saving.register_keras_serializable(package="tfdefense")
class BestScore(DetectorScore):
    """Minus the best of the class scores. For scores that fall off away from the data, as those of RBF-SVMs do.

    Example:

    >>> BestScore()(np.array([[0.5, -1.0]])).numpy()
    array([-0.5], dtype=float32)

    Reference: Melis et al., 2017, Is deep learning safe for robot vision? Adversarial examples against the iCub humanoid.
    """

    def call(self, scores):
        return -ops.max(scores, axis=-1)
