from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense.layers.scores.features.shaping import Shaping

FORMS = ("s", "b", "p")


@keras.saving.register_keras_serializable(package="tfdefense")
class ASH(Shaping):
    """Prunes a sample's features to its largest ones. The energy of the class scores of what is left is the detector score:
    `td.ThresholdDefense("ash")`.

    Differentiable almost everywhere: pruned units have next to no gradient. Features are taken for activations of a ReLU or the
    like, none of them below 0.

    Args:
        percentile: The share of a sample's features, in percent, that is pruned.
        form: "s" scales what is left by exp(sum before / sum after), "b" sets all of it to one value, which keeps the sum,
            "p" leaves it as it is.

    Example:

    >>> np.asarray(ASH(percentile=50, form="b")(np.array([[1.0, 0.0, 4.0, 3.0]])))
    array([[0., 0., 4., 4.]], dtype=float32)

    Reference: Djurisic et al., 2023, Extremely simple activation shaping for out-of-distribution detection.
    """

    def __init__(self, percentile: float = 90.0, form: str = "s", **kwargs: Any):
        super().__init__(percentile, **kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {', '.join(map(repr, FORMS))}. Received: {form!r}.")
        self.form = form

    def call(self, features):
        largest, count = self.largest(features)
        if self.form == "b":
            # Units that do not answer are none of the largest, where fewer do than may stay.
            largest = largest * ops.cast(features > 0, features.dtype)
            return largest * ops.sum(features, axis=-1, keepdims=True) / count
        kept = features * largest
        return kept * ops.exp(self.ratio(features, largest)) if self.form == "s" else kept

    def get_config(self):
        return {**super().get_config(), "form": self.form}
