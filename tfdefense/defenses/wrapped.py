"""What changes another defense: thresholds for each class, class scores at a fitted temperature."""

from __future__ import annotations

from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense, Joined
from tfdefense.layers import ClassThreshold, TemperatureScaling


class _Wrapped(Defense):
    """Another defense with something in front of it or behind."""

    def __init__(self, defense: Defense):
        if not isinstance(defense, Defense):
            example = f"td.{type(self).__name__}(td.ThresholdDefense())"
            raise ValueError(f"Expected a defense, such as `{example}`. Received: {type(defense).__name__}.")
        self.defense = defense
        self.layers, self.threshold, self.has_dustbin = defense.layers, defense.threshold, defense.has_dustbin


class PerClass(_Wrapped):
    """Gives a defense a threshold for each class, by which samples that are taken for it are rejected.

    `td.calibrate` then keeps its promise for each class, where one threshold keeps it for all together: a class on which the
    network is less sure is not rejected more often. It takes as many samples of each class as it does of all otherwise.

    Args:
        defense: A defense with one detector score. Several are joined outside: `td.AnyOf(td.PerClass(a), td.PerClass(b))`.

    Example:

    >>> defended = PerClass(td.ThresholdDefense("energy")).attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.1) <= 0.1
    True
    >>> defended.layers[-2].value.shape
    TensorShape([10])

    Reference: Vovk, 2012, Conditional validity of inductive conformal predictors.
    """

    def __init__(self, defense: Defense):
        super().__init__(defense)
        if isinstance(defense, Joined) or type(defense).suspect is not Defense.suspect:
            raise ValueError(
                f"Expected a defense with one detector score. Received `td.{type(defense).__name__}`, which sets its thresholds "
                "itself. Wrap those that it joins: `td.AnyOf(td.PerClass(a), td.PerClass(b))`."
            )

    def suspect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        scores, detector_score = self.defense.connect(logits, taps)
        return scores, ClassThreshold(scores.shape[-1], self.threshold)(detector_score, scores)


class TemperatureScaled(_Wrapped):
    """Gives a defense class scores at the temperature that fits held-out samples best; see `td.layers.TemperatureScaling`.

    The softmax of the defended model's scores then says how often it is right. Scores such as the confidence order samples anew,
    those such as the best score do not. `td.adapt` fits the temperature, best on samples that the network has not seen.

    Args:
        defense: Any defense.

    Example:

    >>> defended = TemperatureScaled(td.ThresholdDefense("confidence")).attach(model)
    >>> defended = td.adapt(defended, x_held_out[:200], y_held_out[:200], calibration=x_held_out[200:], max_rejected=0.05)
    >>> defended(x)["label"].shape
    TensorShape([8])
    """

    def suspect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return self.defense.suspect(TemperatureScaling()(logits), taps)
