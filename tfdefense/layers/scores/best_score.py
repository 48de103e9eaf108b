import keras
from keras import ops

from tfdefense.layers.scores.score import DetectorScore


@keras.saving.register_keras_serializable(package="tfdefense")
class BestScore(DetectorScore):
    """Max-logit: minus the best of the class scores. Also for scores that fall off away from the data, as those of RBF-SVMs do.

    Example:

    >>> BestScore()(np.array([[0.5, -1.0]])).numpy()
    array([-0.5], dtype=float32)

    Reference: Hendrycks et al., 2022, Scaling out-of-distribution detection for real-world settings; Melis et al., 2017, Is deep
    learning safe for robot vision? Adversarial examples against the iCub humanoid.
    """

    def call(self, scores):
        return -ops.max(scores, axis=-1)
