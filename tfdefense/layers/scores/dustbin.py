from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfdefense")
class Dustbin(keras.layers.Layer):
    """Splits classes + 1 scores into class scores and a detector score: the last score, the dustbin's, against the best class.

    Always active. Above 0 the dustbin wins, which is the paper's decision. Differentiable.

    Example:

    >>> scores, detector_score = Dustbin()(np.array([[4.0, 1.0, 6.0]]))
    >>> float(detector_score[0])
    2.0

    Reference: Abbasi et al., 2018, Towards dependable deep convolutional neural networks with out-distribution learning.
    """

    def __init__(self, **kwargs: Any):
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
