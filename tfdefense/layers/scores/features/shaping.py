"""What layers share that shape features, each sample's by its own largest ones."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense._validation import check_number


class Shaping(keras.layers.Layer):
    """Shapes features by the largest of each sample. Always active; nothing to adapt.

    A sample's largest are the share of its features above `percentile`; those equal to the last of them count too. Features are
    taken for activations of a ReLU or the like, none of them below 0.

    Args:
        percentile: The share, in percent, that is not among the largest.
    """

    takes = ("features",)
    shapes_features = True

    def __init__(self, percentile: float, **kwargs: Any):
        # Factors are exponentials: float16 can't hold them.
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_percentile(percentile)
        self.percentile = float(percentile)

    def largest(self, features):
        """1 for each of a sample's largest features, else 0; and how many they are but for equal ones."""
        width = features.shape[-1]
        count = max(1, width - round(width * self.percentile / 100))
        least = ops.top_k(ops.stop_gradient(features), count)[0][:, count - 1 :]
        return ops.cast(features >= least, features.dtype), count

    def ratio(self, features, largest):
        """The sum of all features of a sample against that of its largest."""
        total, of_largest = (ops.sum(part, axis=-1, keepdims=True) for part in (features, features * largest))
        # A sample without activations has nothing to shape.
        return total / ops.maximum(of_largest, 1e-6)

    def compute_output_shape(self, features_shape):
        return features_shape

    def get_config(self):
        return {**super().get_config(), "percentile": self.percentile}


def check_percentile(percentile):
    check_number("percentile", percentile)
    if percentile >= 100:
        raise ValueError(f"`percentile` must be below 100. Received: {percentile!r}. Of the features, 10 % are left by 90.")
