"""Attacks by projected gradient steps. They differ in how many steps, how long, from where and towards what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Bounds, Tensor
from tfdefense.attacks.arguments import check
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.norms import uniform
from tfdefense.attacks.objectives import Objective
from tfdefense.attacks.searches.loop import check_search, in_the_graph, lengths_of, search
from tfdefense.attacks.starts import Random, as_tuple
from tfdefense.view import View


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient descent on an objective, inside a norm ball and the bounds.

    Args:
        epsilon: Size of the ball, in the units of the pixels.
        norm: "linf", "l2" or "l1".
        steps: Gradient steps.
        step_size: Length of the first step in the norm; by default epsilon, or 2.5 * epsilon / steps where all are alike.
        random_start: Start from a random point of the ball.
        restarts: How many random starts.
        objective: What to make small; None means `CrossEntropy()`, or `Evade()` on a model that rejects.
        starts: Where to begin: "sample", "random", "interpolated", "base", start objects, or "all". None is the sample, and
            on a model that rejects "all". A sample that is broken skips the rest.
        early_stop: Leave a sample alone once the attack succeeds. Otherwise all steps are made and the best point counts.
        tolerance: Stop where the objective moves by no more than this in a step. None never does.
        seed: Of the random starts.
        schedule: "cosine": steps shrink from the first to 0 along half a cosine, which finds far more than steps of one length
            on models that reject. "fixed": all alike, as in the papers.
        targets: Aim at so many of the likeliest wrong classes in turn, from each start; 0 aims away from the true class.
        momentum: Share of the way so far that each gradient is added to; by default 0.75, or 0 where all steps are alike. Signs
            alone jump to and fro where two terms of an objective take turns.

    Example:

    >>> result = PGD(epsilon=0.2, steps=10)(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Madry et al., 2018, Towards deep learning models resistant to adversarial attacks.
    """

    epsilon: float
    norm: str = "linf"
    steps: int = 40
    step_size: float | None = None
    random_start: bool = False
    restarts: int = 1
    objective: Objective | None = None
    starts: tuple | str | None = None
    early_stop: bool = False
    tolerance: float | None = None
    seed: int = 0
    schedule: str = "cosine"
    targets: int = 0
    momentum: float | None = None

    # How far all steps of one length together reach, in radii, when no step size is given.
    reach = 2.5

    def __post_init__(self):
        check_search(self)
        named = as_tuple(self.starts)
        random = named == ("all",) or any(one == "random" or isinstance(one, Random) for one in named)
        if self.random_start and not random:
            # In place of the sample, which is what was asked for; beside any other start.
            object.__setattr__(self, "starts", (*(one for one in named if one != "sample"), "random"))
        elif self.restarts > 1 and not random:
            raise ValueError(f"`restarts={self.restarts}` needs random starts. Pass `random_start=True`, or 'random' in `starts`.")

    @property
    def lengths(self) -> np.ndarray:
        """The length of each step."""
        return lengths_of(self, self.reach * self.epsilon / self.steps)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        final, spent = search(self._step(batch), self._begin(batch, start), self.steps)
        # The last point was reached after the last look at the model: one look more.
        value, label = look_again(batch, self.objective_on(batch.view), final["x"])
        success = batch.succeeded(label)
        better = self._ends_at(success, value, final)
        x = np.where(better.reshape((-1,) + (1,) * (start.ndim - 1)), final["x"], final["best"])
        return Candidates(x, spent, final["zero"], np.where(better, label, final["best_label"]))

    def _ends_at(self, success, value, final):
        """Where the last point is given back, not the best one before it."""
        return np.asarray(no_worse(success, value, final))

    def path(self, model: AnyModel, x: ArrayLike, y: ArrayLike, *, bounds: Bounds = None, batch_size: int = 128) -> np.ndarray:
        """The objective at every step from the clean samples, shape (steps + 1, samples): an attack that works brings it down."""
        view, x, y = check(model, x, y, bounds)
        scale = self.objective_on(view).measure(view, x, y)
        parts = []
        for first in range(0, len(x), batch_size):
            rows = np.arange(first, min(first + batch_size, len(x)))
            batch = Batch(view, x[rows], y[rows], None, False, scale, (), rows)
            step, state, values = self._step(batch), self._begin(batch, x[rows]), []
            for _ in range(self.steps):
                state = step(state)
                values.append(state["last_value"].numpy())
            parts.append(np.stack([*values, look_again(batch, self.objective_on(view), state["x"])[0]]))
        return np.concatenate(parts, axis=1)

    def _step(self, batch):
        """The next step, from state to state, each time that it is called."""
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        fixed = {"epsilon": self.epsilon, "scale": batch.scale, "tolerance": -1.0 if self.tolerance is None else self.tolerance}
        fixed["momentum"] = momentum(self)
        fixed = {name: tf.constant(value, tf.float32) for name, value in fixed.items()}
        step, left = self._stepper(view, objective, targeted), iter(self.lengths)
        return lambda state: step(state, fixed | {"step": tf.constant(next(left))})

    def _stepper(self, view, objective, targeted):
        """The compiled step."""
        key = ("pgd", self.norm, objective, targeted, self.early_stop)
        return view.function(key, lambda: build_step(view, self.ball, objective, targeted, self.early_stop))

    def _begin(self, batch, start):
        none, far = tf.zeros(len(start), tf.bool), tf.fill([len(start)], np.float32(np.inf))
        best = {"best": tf.constant(start), "best_value": far, "best_label": batch.aim, "best_success": none}
        return batch.state(start) | best | {"last_value": far, "moved": none, "velocity": tf.zeros_like(best["best"])}

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Inside a training step: all steps, from the sample or, with a random start, from a random point of the ball."""
        objective, targeted = self.objective_on(view), self.default_target is not None
        named = as_tuple(self.starts)
        random = len(named) == 1 and (named[0] == "random" or isinstance(named[0], Random))
        if not random and named not in ((), ("sample",)):
            raise ValueError(
                "In training a search begins at the sample, or with `random_start=True` at a random point of the ball. "
                f"Received starts={self.starts!r}. Leave them out."
            )

        def perturb(x, y, seeds):
            scores, suspicion, _ = view.forward(x)
            aim = _least_likely(scores, y) if targeted else y
            scale, each, share = objective.units(scores, suspicion, y), tf.constant(self.lengths), momentum(self)

            def descend(index, at, velocity):
                _, _, gradient = slope(view, objective, targeted, at, aim, scale)
                velocity = carried(velocity, gradient, share) if share else gradient
                return move(at, x, velocity, each[index], self.epsilon, self.ball, view.bounds), velocity

            start = x + _noise(self.ball, x, self.epsilon, seeds) if random else x
            start = tf.clip_by_value(start, *view.bounds)
            return in_the_graph(descend, (start, tf.zeros_like(start)), self.steps)[0]

        return perturb


def _least_likely(scores, y):
    """Of the classes that are neither the true one nor ruled out."""
    ruled_out = tf.one_hot(y, scores.shape[-1], True, False, dtype=tf.bool) | ~tf.math.is_finite(scores)
    return tf.argmin(tf.where(ruled_out, np.inf, scores), -1, output_type=y.dtype)


def _noise(ball, x, epsilon, seeds):
    """Random points of the ball, each from its own seed."""
    features = int(np.prod(x.shape[1:]))
    points = ball.point(uniform(seeds, ball.numbers(features)), features, epsilon)
    return tf.reshape(points, tf.shape(x))


def look(view, objective, targeted, x, aim, scale):
    """The objective at `x`, and the label."""
    scores, suspicion, label = view.forward(x)
    return objective.value(scores, suspicion, aim, aim if targeted else None, scale), label


def slope(view, objective, targeted, x, aim, scale, free=None):
    """The objective at `x`, the label, and the gradient."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        value, label = look(view, objective, targeted, x, aim, scale)
    return value, label, gradient_or_error(view, tape, value, x, free)


def momentum(attack):
    """The share that an attack was given, or that of its schedule."""
    return (0.75 if attack.schedule == "cosine" else 0.0) if attack.momentum is None else attack.momentum


def carried(velocity, gradient, share):
    """A gradient of mean size 1 added to a share of those before it."""
    flat = tf.reshape(gradient, [tf.shape(gradient)[0], -1])
    # By the largest first: the sum of tiny ones vanishes in float32.
    flat /= tf.maximum(tf.reduce_max(tf.abs(flat), -1, keepdims=True), 1e-30)
    flat /= tf.maximum(tf.reduce_mean(tf.abs(flat), -1, keepdims=True), 1e-12)
    return share * velocity + tf.reshape(flat, tf.shape(gradient))


def no_worse(success, value, state):
    """Where a point is no worse than the best so far; a success comes first, then the lower value.

    Of equals the later: where float32 saturates the objective stands still while the steps go on.
    """
    return (success & ~state["best_success"]) | ((success == state["best_success"]) & (value <= state["best_value"]))


def with_best(state, better, value, label, success):
    """A state in which the point it is at is the best where it is better."""
    x = state["x"]
    return state | {
        "best": tf.where(tf.reshape(better, [-1] + [1] * (len(x.shape) - 1)), x, state["best"]),
        "best_value": tf.where(better, value, state["best_value"]),
        "best_label": tf.where(better, label, state["best_label"]),
        "best_success": state["best_success"] | success,
    }


def look_again(batch, objective, x):
    """The objective at points, and their labels, as arrays; by a function that is compiled already."""
    scores, suspicion, label = batch.view.run(x)
    target, scale = None if batch.target is None else batch.aim, tf.constant(batch.scale, tf.float32)
    return objective.value(scores, suspicion, batch.aim, target, scale).numpy(), label.numpy()


def move(x, clean, gradient, step, epsilon, ball, bounds):
    """One step against a gradient, back into the ball and the bounds."""
    return step_along(x, clean, steepest(x, gradient, ball, bounds), step, epsilon, ball, bounds)


def steepest(x, gradient, ball, bounds):
    """The direction in which a step of length 1 gains most, flat; a step goes against it."""
    low, high = bounds
    gradient = tf.reshape(gradient, [tf.shape(x)[0], int(np.prod(x.shape[1:]))])
    at = tf.reshape(x, tf.shape(gradient))
    return ball.steepest(gradient, tf.where(gradient > 0, at > low, at < high))


def step_along(x, clean, direction, step, epsilon, ball, bounds):
    """One step against a flat direction, back into the ball and the bounds."""
    flat = tf.reshape(x - clean, tf.shape(direction))
    moved = ball.project(flat - step * direction, epsilon)
    return tf.clip_by_value(clean + tf.reshape(moved, tf.shape(x)), *bounds)


def all_zero(gradient):
    return tf.reduce_all(tf.reshape(gradient, [tf.shape(gradient)[0], -1]) == 0, -1)


def build_step(view, ball, objective, targeted, early_stop):
    def step(state, fixed):
        x = state["x"]
        value, label, gradient = slope(view, objective, targeted, x, state["aim"], fixed["scale"], state.get("free"))
        success = succeeds(label, state)
        # The start itself counts only if it succeeds: a failed attack shows where its steps led.
        better = no_worse(success, value, state) & (success | state["moved"])
        state = with_best(state, better, value, label, success)
        state["zero"] |= all_zero(gradient) & ~success
        settled = tf.abs(value - state["last_value"]) <= fixed["tolerance"]
        state["last_value"] = value
        state["moved"] = tf.ones_like(success)
        state["done"] = settled | success if early_stop else settled
        state["velocity"] = carried(state["velocity"], gradient, fixed["momentum"])
        state["x"] = move(x, state["clean"], state["velocity"], fixed["step"], fixed["epsilon"], ball, view.bounds)
        return state

    return step


@dataclass(frozen=True)
class FGSM(PGD):
    """One gradient step to the edge of the ball; with a target this is T-FGS.

    In l2 the step goes along the gradient itself, in linf along its signs.

    Example:

    >>> FGSM(0.1)(model, x, y).x_adv.shape == x.shape
    True

    Args:
        epsilon: Size of the step.
        norm: "linf", "l2" or "l1".

    Reference: Goodfellow et al., 2015, Explaining and harnessing adversarial examples.
    """

    steps: int = 1
    starts: tuple | str | None = ("sample",)
    schedule: str = "fixed"
    reach = 1.0


@dataclass(frozen=True)
class BIM(PGD):
    """Basic iterative method (I-FGS): gradient steps that together reach the edge of the ball, from the sample.

    Args:
        epsilon, norm, steps, step_size: As of `PGD`; so are the others. Steps are of one length.

    Example:

    >>> result = BIM(0.2, steps=5)(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Kurakin et al., 2017, Adversarial examples in the physical world.
    """

    steps: int = 10
    starts: tuple | str | None = ("sample",)
    schedule: str = "fixed"
    reach = 1.0


@dataclass(frozen=True)
class ILCM(BIM):
    """Iterative least-likely class method: BIM towards the class that the model holds least likely.

    Args:
        epsilon, norm, steps, step_size: As of `PGD`; so are the others.

    Example:

    >>> ILCM(0.2, steps=5)(model, x, y).x_adv.shape == x.shape
    True

    Reference: Kurakin et al., 2017, Adversarial examples in the physical world.
    """

    default_target = "least_likely"
