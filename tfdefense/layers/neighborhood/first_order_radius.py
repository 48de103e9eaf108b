from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from tfdefense._cuts import with_slopes
from tfdefense._validation import check_number
from tfdefense.layers.neighborhood.classifier import AroundSample, checked_norm, flat, l2_length, one_hot_best

DUALS = ("linf", "l2", "l1")


@keras.saving.register_keras_serializable(package="tfdefense")
class FirstOrderRadius(AroundSample, keras.layers.Layer):
    """The detector score of the first-order radius: minus the distance to the nearest other class of the linearised classifier.

    The distance to class c is (z_y - z_c) / ||gradient of (z_y - z_c)||, in the dual of the norm, and the nearest counts. On a
    linear classifier without bounds it is exact. A sample costs a forward pass and as many backward passes as there are other
    classes, or `top`.

    Always active. Its gradient is that of the ratio itself. `smooth` is the other way to attack it (BPDA): the steepness is held
    fixed, and only the lead is followed.

    Args:
        norm: "linf", "l2" or "l1", in which the distance is.
        top: So many of the likeliest other classes are looked at; None is all of them.

    Call arguments:
        inputs: A list of the model's input and the class scores that come from it.

    References: Moosavi-Dezfooli et al., 2016, DeepFool: a simple and accurate method to fool deep neural networks; Hein and
    Andriushchenko, 2017, Formal guarantees on the robustness of a classifier against adversarial manipulation.
    """

    has_slope = True
    # Forward; the backward passes share its activations.
    passes = 2

    def __init__(self, norm: str = "l2", top: int | None = None, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if top is not None:
            check_number("top", top, low=1, whole=True)
        self.norm, self.top = checked_norm(norm, DUALS), None if top is None else int(top)

    def call(self, inputs):
        return -ops.min(ops.stack(self._distances(*inputs)[0]), axis=0)

    def smooth(self, inputs: Sequence[Any], slope: Any, widen: Any) -> Any:
        """The score with every steepness held fixed, and a soft minimum over the classes.

        Args:
            inputs: As those of a call.
            slope: Of the soft minimum, as a multiple of the nearest distance: the larger, the closer to the nearest class alone.
            widen: Of no use here.
        """
        # The steepness of the linearised classifier as it is here, the lead as a function of the sample.
        found, leads = self._distances(*inputs)
        steepness = [ops.stop_gradient(lead / ops.maximum(one, 1e-12)) for one, lead in zip(found, leads, strict=True)]
        x, scores = inputs
        leads = self._leads(self.classify(x), scores)[0]
        distances = ops.stack([lead / ops.maximum(size, 1e-12) for lead, size in zip(leads, steepness, strict=True)])
        unit = ops.stop_gradient(ops.maximum(ops.min(ops.abs(distances), axis=0), 1e-6)) / slope
        return ops.logsumexp(-distances / unit, axis=0) * unit

    def _distances(self, x, scores):
        chosen = self._leads(scores, scores)[1]
        there, slopes = with_slopes(self.classify, x, lambda _: chosen)
        leads = [ops.sum(there * direction, axis=-1) for direction in chosen]
        return [lead / ops.maximum(self._size(slope), 1e-20) for lead, slope in zip(leads, slopes, strict=True)], leads

    def _leads(self, values, scores):
        """How far the class of `scores` leads over each other one that is looked at, and as directions in the class scores."""
        own = one_hot_best(scores)
        classes = scores.shape[-1]
        count = classes - 1 if self.top is None else min(self.top, classes - 1)
        others = ops.top_k(ops.stop_gradient(scores), count + 1)[1]
        chosen = [own - ops.one_hot(others[:, rank], classes, dtype="float32") for rank in range(1, count + 1)]
        return [ops.sum(values * direction, axis=-1) for direction in chosen], chosen

    def _size(self, slope):
        slope = flat(slope)
        if self.norm == "l2":
            # By its largest entry first: the squares of a tiny gradient vanish in float32.
            largest = ops.maximum(ops.max(ops.abs(slope), axis=-1), 1e-30)
            return l2_length(slope / ops.expand_dims(largest, -1)) * largest
        size = ops.abs(slope)
        return ops.sum(size, axis=-1) if self.norm == "linf" else ops.max(size, axis=-1)

    def get_config(self):
        return {**super().get_config(), "norm": self.norm, "top": self.top}
