from typing import Any

import keras
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.scores.score import DetectorScore


@keras.saving.register_keras_serializable(package="tfdefense")
class Energy(DetectorScore):
    """Energy: minus T times the log of the sum over all classes of exp(score / T).

    Low on samples like those of the training. Differentiable. What all scores of a sample have in common counts; a softmax takes
    that out.

    Args:
        temperature: T, above 0. The paper has 1; near 0 the energy is minus the best score.

    Example:

    >>> [round(float(energy), 2) for energy in Energy()(np.array([[5.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))]
    [-5.01, -1.13]

    Reference: Liu et al., 2020, Energy-based out-of-distribution detection.
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_number("temperature", temperature, above=True)
        self.temperature = float(temperature)

    def call(self, scores):
        return -self.temperature * ops.logsumexp(scores / self.temperature, axis=-1)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
