"""Projected descent as some papers print it: along the gradient as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import Tensor
from tfdefense.attacks.base import succeeds
from tfdefense.attacks.searches.projected import PGD, all_zero, no_worse, slope, step_along, with_best
from tfdefense.view import View

KEPT = ("best", "last")


@dataclass(frozen=True)
class GradientDescent(PGD):
    """Projected descent along the bare gradient: a step is `step_size` times the gradient, however long that is.

    Algorithm 1 of the paper on Deep Neural Rejection is `GradientDescent(epsilon, "l2", step_size=eta, objective=
    MaximumConfidence(), keep="last", tolerance=t)`. Which `step_size` fits follows from the slope of the objective: try a range,
    such as 0.1 to 100, and let the strongest count. `PGD` brings every step to one length, which needs no such search. But
    where a gradient is tiny it points anywhere, and there steps of that length lead away from the boundary.

    Args:
        epsilon, norm, steps, random_start, restarts, objective, starts, early_stop, tolerance, seed, targets: As of `PGD`.
        step_size: What the gradient is multiplied by.
        schedule: "fixed": by the same number at each step. "cosine": by one that falls to 0.
        momentum: Share of the way so far that each gradient is added to.
        keep: "best": a success comes before a failure, then the lower objective. "last": where the steps end, as in the paper.

    Example:

    >>> result = GradientDescent(1.0, "l2", step_size=5.0)(model, x, y)
    >>> bool((result.distance <= 1 + 1e-6).all())
    True

    Reference: Sotgiu et al., 2020, Deep neural rejection against adversarial examples, algorithm 1.
    """

    norm: str = "l2"
    steps: int = 100
    step_size: float | None = 1.0
    starts: tuple | str | None = ("sample",)
    schedule: str = "fixed"
    keep: str = "best"

    def __post_init__(self):
        super().__post_init__()
        if self.step_size is None:
            raise ValueError("`step_size` must be a number: what the gradient is multiplied by. Received: None.")
        if self.keep not in KEPT:
            raise ValueError(f"`keep` must be 'best' or 'last'. Received: {self.keep!r}.")

    def _ends_at(self, success, value, final):
        return np.ones(len(value), bool) if self.keep == "last" else super()._ends_at(success, value, final)

    def _stepper(self, view, objective, targeted):
        key = ("gradient descent", self.norm, objective, targeted, self.early_stop)
        return view.function(key, lambda: build_step(view, self.ball, objective, targeted, self.early_stop))

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        raise ValueError(
            "GradientDescent is for evaluation: in training the length of its steps would follow that of the gradient, which falls "
            "as the network learns. Take `td.attacks.PGD`."
        )


def build_step(view, ball, objective, targeted, early_stop):
    def step(state, fixed):
        x = state["x"]
        value, label, gradient = slope(view, objective, targeted, x, state["aim"], fixed["scale"], state.get("free"))
        success = succeeds(label, state)
        state = with_best(state, no_worse(success, value, state) & (success | state["moved"]), value, label, success)
        state["zero"] |= all_zero(gradient) & ~success
        settled = tf.abs(value - state["last_value"]) <= fixed["tolerance"]
        state["last_value"], state["moved"] = value, tf.ones_like(success)
        state["done"] = settled | success if early_stop else settled
        state["velocity"] = fixed["momentum"] * state["velocity"] + gradient
        along = tf.reshape(state["velocity"], [tf.shape(x)[0], -1])
        moved = step_along(x, state["clean"], along, fixed["step"], fixed["epsilon"], ball, view.bounds)
        # Where the objective stands still the paper ends, with the point that was looked at.
        state["x"] = tf.where(tf.reshape(settled, [-1] + [1] * (len(x.shape) - 1)), x, moved)
        return state

    return step
