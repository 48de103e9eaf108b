from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfdefense")
class BinaryScores(keras.layers.Layer):
    """Two class scores from the one logit of a binary classifier: 0 and the logit, so that their softmax is its sigmoid.

    Always active. Its gradient is that of the logit. Class 1 is what the unit stands for.

    Call arguments:
        logit: What is behind the sigmoid, shape (batch, 1).

    Example:

    >>> np.asarray(BinaryScores()(np.array([[-2.0], [3.0]]))).tolist()
    [[0.0, -2.0], [0.0, 3.0]]
    """

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)

    def call(self, logit):
        return ops.concatenate([ops.zeros_like(logit), logit], axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 2)
