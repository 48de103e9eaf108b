from __future__ import annotations

from typing import Any

import keras
import numpy as np


class AdaptableLayer(keras.layers.Layer):
    """A layer whose state is set from data by `adapt(features, labels)` and not by gradient.

    The state belongs in non-trainable weights, so that `.keras` files, checkpoints and exports carry it. Until `adapt`
    is called, `adapted` is False and the layer's score must be +inf or NaN: both are rejected.

    `adapt` may return what the layer gives for samples that it was not fitted on (cross-validated, one row a sample).
    Layers behind it are then adapted on that in place of its outputs: this is stacked generalisation.

    `labels` are the classes of clean samples. A layer with `needs_adversarial = True` gets clean and adversarial samples, and
    for each 0 (clean) or 1 (adversarial). One with `takes_pairs = True` is also given `pairs`, a number for each sample that is the
    same for a clean one and for those made of it: what cross-validates must leave them out together.
    One with `takes_rate = True` is also given `max_rejected`, the share of clean samples that may be rejected, or None.

    A layer without a useful gradient may offer `smooth(inputs, slope, widen)`, a smooth version of `call` that attacks can
    follow: see `td.differentiable`. Where it is only a second way to attack, beside a gradient of the layer's own,
    `has_slope = True` says so.
    """

    needs_adversarial = False
    takes_pairs = False
    takes_rate = False

    def build(self, input_shape):
        self._adapted = self.add_weight(name="adapted", shape=(), initializer="zeros", trainable=False, dtype="float32")

    @property
    def adapted(self) -> bool:
        return self.built and bool(keras.ops.convert_to_numpy(self._adapted))

    def mark_adapted(self) -> None:
        self._adapted.assign(1.0)

    def check_room(self, samples: int) -> None:
        """Raises an error where `adapt` would refuse so many samples or more: before a network has run on all of them."""

    def adapt(self, features: Any, labels: Any) -> np.ndarray | None:
        raise NotImplementedError
