from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.objectives import LogSumExp, Objective
from tfdefense.attacks.searches.loop import check_search, search
from tfdefense.attacks.searches.projected import all_zero, look_again, no_worse, slope, steepest, step_along, with_best
from tfdefense.view import View

# The share of each step that is new; the rest is that of the step before.
MOMENTUM = 0.75


@dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: each sample finds its own step size.

    The first steps are twice the radius. At checkpoints, which come closer and closer, the step of a sample is halved where its
    objective fell in too few of the steps since the last one, or where neither its best point nor its step has changed since.
    It then goes on from its best point. So a large step crosses plateaus and bumps first, and small ones settle what it finds.

    Args:
        epsilon: Size of the ball.
        norm: "linf", "l2" or "l1". In l1 steps go along the few steepest pixels, as in `PGD`.
        steps: Gradient steps.
        objective: What to make small; None means `CrossEntropy()`, or `LogSumExp()` on a model that rejects. The authors'
            own are `CrossEntropy()` and `LogitRatio()`.
        starts: Where to begin, as in `PGD`.
        restarts: Random starts, where `starts` has any.
        early_stop: Leave a sample alone once the attack succeeds. Otherwise all steps are made and the best point counts.
        rho: The share of steps between two checkpoints that must improve the objective; below it the step is halved.
        seed: Of the random starts.
        targets: As of `PGD`.

    Example:

    >>> result = APGD(epsilon=0.2, steps=20, objective=LogitRatio())(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Croce and Hein, 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, algorithm 1.
    """

    epsilon: float
    norm: str = "linf"
    steps: int = 100
    objective: Objective | None = None
    starts: tuple | str | None = None
    restarts: int = 1
    early_stop: bool = False
    rho: float = 0.75
    seed: int = 0
    targets: int = 0

    def __post_init__(self):
        check_search(self)
        check_number("rho", self.rho)
        if self.rho > 1:
            raise ValueError(f"`rho` is a share of steps, at most 1. Received: {self.rho!r}.")

    def objective_on(self, view: View) -> Objective:
        return LogSumExp() if self.objective is None and view.rejects else super().objective_on(view)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        fixed = {name: tf.constant(value, tf.float32) for name, value in (("epsilon", self.epsilon), ("rho", self.rho))}
        fixed["scale"] = tf.constant(batch.scale, tf.float32)
        key = ("apgd", self.norm, objective, targeted, self.early_stop)
        step = view.function(key, lambda: _build_step(view, self.ball, objective, targeted, self.early_stop))
        windows = iter(_windows(self.steps))
        state = batch.state(start) | self._fresh(batch, start)
        # The window comes as a tensor: the step is traced once, checkpoint or not.
        final, spent = search(lambda state: step(state, fixed, tf.constant(next(windows), tf.float32)), state, self.steps)
        # The last point was reached after the last look at the model: one look more.
        value, label = look_again(batch, objective, final["x"])
        better = np.asarray(no_worse(batch.succeeded(label), value, final))
        x = np.where(better.reshape((-1,) + (1,) * (start.ndim - 1)), final["x"], final["best"])
        return Candidates(x, spent, final["zero"], np.where(better, label, final["best_label"]))

    def _fresh(self, batch, start):
        rows = len(start)
        return {
            "previous": tf.constant(start),
            "step": tf.fill([rows], np.float32(2 * self.epsilon)),
            "best": tf.constant(start),
            "best_gradient": tf.zeros(start.shape),
            "best_value": tf.fill([rows], np.float32(np.inf)),
            "best_label": batch.aim,
            "best_success": tf.zeros(rows, tf.bool),
            # Nothing is below it: the start improves on nothing.
            "last_value": tf.fill([rows], np.float32(-np.inf)),
            "improved": tf.zeros(rows),
            "changed": tf.zeros(rows, tf.bool),
            "halved": tf.zeros(rows, tf.bool),
        }


def _windows(steps):
    """For each step how many have gone by since the last checkpoint, where it is one, and 0 where it is none."""
    # In hundredths, which are exact.
    windows, last, share, length = [0] * steps, 0, 22, 22
    while (at := -(-share * steps // 100)) < steps:
        if at > last:
            windows[at], last = at - last, at
        length = max(length - 3, 6)
        share += length
    return windows


def _wide(rows, x):
    """A boolean a row, of the rank of x."""
    return tf.reshape(rows, [-1] + [1] * (len(x.shape) - 1))


def _build_step(view, ball, objective, targeted, early_stop):
    def step(state, fixed, window):
        x = state["x"]
        value, label, gradient = slope(view, objective, targeted, x, state["aim"], fixed["scale"], state.get("free"))
        success = succeeds(label, state)
        kept = no_worse(success, value, state)
        better = kept & ((success != state["best_success"]) | (value < state["best_value"]))
        state = with_best(state, kept, value, label, success)
        state["best_gradient"] = tf.where(_wide(kept, x), gradient, state["best_gradient"])
        state["zero"] |= all_zero(gradient) & ~success
        if early_stop:
            state["done"] = success

        checked = window > 0
        improved = state["improved"] + tf.cast(value < state["last_value"], tf.float32)
        changed = state["changed"] | better
        halved = checked & ((improved < fixed["rho"] * window) | ~(changed | state["halved"]))
        state["improved"] = tf.where(checked, 0.0, improved)
        state["changed"] = changed & ~checked
        state["halved"] = tf.where(checked, halved, state["halved"])
        state["step"] = tf.where(halved, state["step"] / 2, state["step"])
        state["last_value"] = tf.where(halved, state["best_value"], value)
        # Back at the best point a sample stands still: the way it came from elsewhere is no momentum.
        back = _wide(halved, x)
        x, gradient = tf.where(back, state["best"], x), tf.where(back, state["best_gradient"], gradient)
        carried = tf.where(back, 0.0, x - state["previous"])

        def moved(direction, length):
            return step_along(x, state["clean"], direction, length, fixed["epsilon"], ball, view.bounds)

        aimed = moved(steepest(x, gradient, ball, view.bounds), state["step"][:, None])
        ahead = MOMENTUM * (aimed - x) + (1 - MOMENTUM) * carried
        resting = tf.reduce_all(carried == 0, list(range(1, len(x.shape))), keepdims=True)
        ahead = tf.where(resting, aimed - x, ahead)
        state["previous"] = x
        # Against a direction, as all steps go.
        state["x"] = moved(tf.reshape(-ahead, [tf.shape(x)[0], -1]), 1.0)
        return state

    return step
