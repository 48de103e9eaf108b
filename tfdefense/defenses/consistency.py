"""Defenses that look at what the classifier says around a sample, before it is believed."""

from __future__ import annotations

from typing import Any

from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.graph import input_of
from tfdefense.layers.neighborhood import Consistency, FirstOrderRadius


class _AroundSample(Defense):
    def _input(self, logits):
        """The model's input, around which there is something to search for."""
        x = input_of(logits)
        if "float" not in x.dtype:
            raise ValueError(
                f"`td.{type(self).__name__}` goes along gradients from the sample. Model '{x._keras_history.operation.name}' takes "
                f"{x.dtype}, through which none flows. Give it a float input: `inputs = keras.Input(shape); keras.Model(inputs, "
                "layers_after_the_input(inputs))`."
            )
        if None in x.shape[1:]:
            raise ValueError(
                f"`td.{type(self).__name__}` measures distances between samples of one size. Received samples of shape "
                f"{tuple(x.shape)}. Build the model with `keras.Input` of a fixed shape."
            )
        return x


class ConsistencyRejection(_AroundSample):
    """Rejects what has another class nearby: consistent prediction-based rejection (CPR).

    A search from each sample, part of the graph, looks for a point within `radius` that the classifier gives another class. It is
    made for adversarially trained networks, whose class is the same around most clean samples; see docs/consistency.md for what an
    attacker who knows it leaves of that. A prediction costs about twice `steps` forward passes of the classifier.

    `td.adapt` chooses the radius, best on samples that the network has not seen: so that the share `max_rejected` of
    these has another class within it. The threshold is set on others, and comes out near 0.

    Attacks follow the gradient through the whole search; `td.attacks.BPDA` holds what the search has found fixed. The suites from
    `standard-1` on run both.

    Args:
        radius: How far the search goes, in the units of the input; None waits for `td.adapt`.
        steps: Steps of the search. A few more change little; an attacker pays for each.
        norm: "linf" or "l2".
        threshold: A threshold of your own on minus the lowest margin, of which 0 rejects exactly where another class was found, as
            in the paper; None waits for `td.calibrate`.

    Example:

    >>> defended = ConsistencyRejection(steps=5).attach(model)
    >>> fitting, calibration = (x_held_out[:200], y_held_out[:200]), x_held_out[200:]
    >>> defended = td.adapt(defended, *fitting, calibration=calibration, max_rejected=0.05)
    >>> float((defended(calibration)["label"].numpy() == -1).mean()) <= 0.05
    True

    Reference: Chen et al., 2023, Stratified adversarial robustness with rejection.
    """

    def __init__(self, radius: float | None = None, steps: int = 10, norm: str = "l2", threshold: float | None = None):
        self.threshold = threshold
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        self.options: dict[str, Any] = {"radius": radius, "steps": steps, "norm": norm}
        Consistency(**self.options)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return logits, Consistency(**self.options, bounds=self.bounds)([self._input(logits), logits])


class RadiusRejection(_AroundSample):
    """Rejects what lies near a boundary of the linearised classifier: the first-order distance to the nearest other class.

    The lead over each other class is divided by its steepness. It is no bound: behind a bend of the network a boundary may be
    nearer. A prediction costs a forward pass and as many backward passes as there are other classes, or `top`.

    Attacks follow the gradient of that ratio; `td.attacks.BPDA` holds the steepness fixed.

    Args:
        norm: "linf", "l2" or "l1", in which the distance is.
        top: So many of the likeliest other classes are looked at; None is all.
        threshold: A threshold of your own on minus the distance, such as -0.5; None waits for `td.calibrate`.

    Example:

    >>> defended = RadiusRejection("l2").attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True

    Reference: Moosavi-Dezfooli et al., 2016, DeepFool: a simple and accurate method to fool deep neural networks.
    """

    def __init__(self, norm: str = "l2", top: int | None = None, threshold: float | None = None):
        self.threshold = threshold
        self.options: dict[str, Any] = {"norm": norm, "top": top}
        FirstOrderRadius(**self.options)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return logits, FirstOrderRadius(**self.options)([self._input(logits), logits])
