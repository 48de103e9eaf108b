from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._cuts import with_slopes
from tfdefense._validation import Bounds, check_number, checked_bounds, is_bounded
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.neighborhood.classifier import AroundSample, checked_norm, flat, l2_length, one_hot_best, wide

# Of samples that the radius is chosen on, and so close together its bounds end.
MOST, CLOSE = 1000, 1.02


@keras.saving.register_keras_serializable(package="tfdefense")
class Consistency(AroundSample, AdaptableLayer):
    """The detector score of consistent prediction: minus the margin at the nearby point where the class is least sure.

    A search goes from each sample along the gradient of the margin, the lead of its class over the best other one, in steps that
    shrink from `radius` to 0 along half a cosine, and stays within `radius` and the bounds. The lowest margin on the way counts:
    above 0 the score says that the classifier gives a point so near another class. The steps are part of the graph, without
    anything random. A sample costs `steps` forward and backward passes of the classifier and one forward pass more.

    Always active. Its gradient goes through the whole search. `smooth` is the other way to attack it (BPDA): what the search has
    moved a sample by is held fixed, and the gradient is that of the margin at the point found.

    Args:
        radius: How far the search goes, in the units of the input; None waits for `adapt`.
        steps: Steps of the search.
        norm: "linf" or "l2".
        bounds: Lowest and highest value of an input, which no point of the search passes; None is any finite number.

    Call arguments:
        inputs: A list of the model's input and the class scores that come from it.

    Reference: Chen et al., 2023, Stratified adversarial robustness with rejection.
    """

    # Beside a gradient of its own: see `td.differentiable`.
    has_slope = True
    takes_rate = True

    def __init__(self, radius: float | None = None, steps: int = 10, norm: str = "l2", bounds: Bounds = None, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        if radius is not None:
            check_number("radius", radius, above=True)
        check_number("steps", steps, low=1, whole=True)
        self.radius, self.steps, self.norm = None if radius is None else float(radius), int(steps), checked_norm(norm)
        self.bounds = checked_bounds(bounds)

    def build(self, input_shape):
        def number(name, value):
            constant = keras.initializers.Constant(value)
            return self.add_weight(name=name, shape=(), initializer=constant, trainable=False, dtype="float32")

        # A radius that was given needs no samples.
        self._adapted = number("adapted", 0.0 if self.radius is None else 1.0)
        self.used_radius = number("radius", self.radius or 0.0)

    @property
    def passes(self) -> int:
        """How often the classifier is run, forward and most times backward."""
        return self.steps + 1

    def call(self, inputs):
        x, scores = inputs
        margins, _ = self._search(x, scores, self.used_radius)
        # Before `adapt` minus log 0 is +inf: `where` may be written as a product with infinity.
        return -margins - ops.log(ops.convert_to_tensor(self._adapted))

    def smooth(self, inputs: Sequence[Any], slope: Any, widen: Any) -> Any:
        """The score with the way to the point found held fixed, and a log-sum-exp in place of the best other class.

        Args:
            inputs: As those of a call.
            slope: Of the log-sum-exp, in the units of the class scores: the larger, the closer to the best other class.
            widen: Of no use here.
        """
        x, scores = inputs
        _, moved = self._search(ops.stop_gradient(x), scores, self.used_radius)
        own = one_hot_best(scores)
        there = self.classify(x + ops.stop_gradient(moved))
        others = ops.logsumexp(slope * (there - 1e9 * own), axis=-1) / slope
        return others - ops.sum(there * own, axis=-1) - ops.log(ops.convert_to_tensor(self._adapted))

    def _search(self, x, scores, radius):
        """The lowest margin on the way of each sample, and what moves the sample there."""
        own = one_hot_best(scores)
        at, lowest, moved = x, None, ops.zeros_like(x)
        for share in self._shares():
            scores, slope = self._slope(at, own)
            lowest, moved = _lower(_margin(scores, own), at - x, lowest, moved)
            at = self._inside(x, at - x - radius * share * self._unit(slope), radius)
        return _lower(_margin(self.classify(at), own), at - x, lowest, moved)

    def _slope(self, x, own):
        """The class scores, and the gradient of the margin."""
        scores, (slope,) = with_slopes(self.classify, x, lambda scores: [_towards_margin(scores, own)])
        return scores, slope

    def _shares(self):
        return [(1 + math.cos(math.pi * step / self.steps)) / 2 for step in range(self.steps)]

    def _unit(self, slope):
        if self.norm == "linf":
            return ops.sign(slope)
        # By its largest entry first: the squares of a tiny gradient vanish in float32.
        largest = ops.stop_gradient(ops.maximum(ops.max(ops.abs(flat(slope)), axis=-1), 1e-30))
        slope = slope / wide(largest, slope)
        return slope / wide(l2_length(flat(slope)), slope)

    def _inside(self, x, moved, radius):
        if self.norm == "linf":
            moved = ops.minimum(ops.maximum(moved, -radius), radius)
        else:
            # The square root has no slope at 0, where a sample has not moved: its ball then changes nothing.
            moved = moved * wide(ops.minimum(radius / l2_length(flat(moved)), 1.0), moved)
        return ops.clip(x + moved, *self.bounds) if is_bounded(self.bounds) else x + moved

    def adapt(self, inputs: Sequence[ArrayLike], labels: ArrayLike, max_rejected: float | None = None) -> None:
        """Sets the radius so that of these samples the wanted share has another class within it; one that was given stays.

        Args:
            inputs: Samples and their class scores. The radius fits fresh samples best where the network has not seen these.
            labels: Of no use here.
            max_rejected: The share, 0.05 unless told otherwise.
        """
        if self.radius is not None:
            return
        x, scores = (np.asarray(part, "float32") for part in inputs)
        if not len(x):
            raise ValueError("Expected samples to choose the radius on. Received none.")
        # An even choice where there are more than it takes.
        rows = np.unique(np.linspace(0, len(x) - 1, min(MOST, len(x))).astype(int))
        x, scores = x[rows], scores[rows]
        self.used_radius.assign(self._radius_for(x, scores, 0.05 if max_rejected is None else max_rejected))
        self.mark_adapted()

    def _radius_for(self, x, scores, rate):
        """The largest radius within which no more than that share has another class, to within two percent."""

        def share(radius):
            found = [
                ops.convert_to_numpy(self._search(ops.convert_to_tensor(x[i : i + 128]), scores[i : i + 128], radius)[0])
                for i in range(0, len(x), 128)
            ]
            return float(np.mean(np.concatenate(found) < 0))

        low, high = 0.0, float(np.median(self._first_order(x, scores)))
        if not (math.isfinite(high) and high > 0):
            raise ValueError(
                f"Layer '{self.name}' can't choose a radius: at half of the samples the class scores have no slope. "
                "Check that the network is trained, or give a `radius`."
            )
        farthest = 1e6 * high
        while share(high) <= rate:
            low, high = high, 2 * high
            if high > farthest:
                raise ValueError(
                    f"Layer '{self.name}' can't choose a radius: within no distance {rate:.1%} of the samples have another class. "
                    "Check that the network is trained, or give a `radius`."
                )
        # By ratios; 0 is below every radius.
        least = high / 1024
        while high > CLOSE * max(low, least):
            middle = math.sqrt(max(low, least) * high)
            low, high = (middle, high) if share(middle) <= rate else (low, middle)
        return max(low, least)

    def _first_order(self, x, scores):
        """How far the best other class is in the linearised classifier, for each sample."""
        own = one_hot_best(ops.convert_to_tensor(scores))
        found = []
        for i in range(0, len(x), 128):
            part, mine = ops.convert_to_tensor(x[i : i + 128]), own[i : i + 128]
            there, slope = self._slope(part, mine)
            size = ops.sum(ops.abs(flat(slope)), axis=-1) if self.norm == "linf" else l2_length(flat(slope))
            found.append(ops.convert_to_numpy(_margin(there, mine) / ops.maximum(size, 1e-20)))
        return np.concatenate(found)

    def get_config(self):
        bounds = self.bounds if is_bounded(self.bounds) else None
        config = {"radius": self.radius, "steps": self.steps, "norm": self.norm, "bounds": bounds}
        return {**super().get_config(), **config}


def _margin(scores, own):
    return ops.sum(scores * own, axis=-1) - ops.max(scores - 1e9 * own, axis=-1)


def _towards_margin(scores, own):
    """The slope of the margin in the class scores."""
    return own - one_hot_best(scores - 1e9 * own)


def _lower(margin, moved_here, lowest, moved):
    """The lower of two margins for each sample, and how far its point is from the sample."""
    if lowest is None:
        return margin, moved_here
    here = wide(ops.cast(margin < lowest, "float32"), moved)
    # A product: converters write `where` as one anyway, and all is finite.
    return ops.minimum(margin, lowest), moved + here * (moved_here - moved)
