from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import Tensor, check_number
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.objectives import CrossEntropy
from tfdefense.attacks.searches.loop import check_search, in_the_graph, lengths_of, search
from tfdefense.attacks.searches.projected import all_zero, steepest, step_along
from tfdefense.view import View


@dataclass(frozen=True)
class DynamicAdversary(Attack):
    """Basic iterative method against classifier and detector at once: they get 1 - sigma and sigma of each step.

    In linf both steps go along signs, so that sigma settles every pixel where the two disagree: below 0.5 the classifier's
    sign wins all of them, above 0.5 the detector's, and at 0.5 they cancel out. On a model that rejects nothing only the
    classifier's part is left.
    Cross-entropy is the classifier's cost, as in the paper. The detector's has, whatever its scale, the sign of the
    suspicion, so that this attack fits every defense.

    Args:
        epsilon: Size of the ball.
        sigma: From 0 (the classifier alone) to 1 (the detector alone). None draws it for each sample, which is for training;
            an attack takes the best of several, `WorstCase([DynamicAdversary(0.2, sigma=s) for s in (0.3, 0.4, 0.45, 0.5)])`.
        norm: "linf", which is the paper's, "l2" or "l1".
        steps: Gradient steps; the last point counts, as in the paper, whatever lies on the way.
        step_size: Length of the first step; by default epsilon, or where all are alike epsilon / 4, the paper's 0.25 at an
            epsilon of 1 (of 255).
        seed: Of sigma where it is drawn.
        early_stop: Keep the first point that evades in place of the last.
        schedule: "cosine" for steps that shrink to 0, or "fixed", which is the paper's.

    Example:

    >>> result = DynamicAdversary(0.2, sigma=0.4)(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Metzen et al., 2017, On detecting adversarial perturbations, section 3.3.
    """

    epsilon: float
    sigma: float | None = None
    norm: str = "linf"
    steps: int = 10
    step_size: float | None = None
    seed: int = 0
    early_stop: bool = False
    schedule: str = "cosine"

    def __post_init__(self):
        check_search(self)
        if self.sigma is not None:
            check_number("sigma", self.sigma)
            if self.sigma > 1:
                raise ValueError(f"`sigma` must be at most 1, the detector alone. Received: {self.sigma!r}.")

    @property
    def lengths(self) -> np.ndarray:
        """The length of each step."""
        return lengths_of(self, self.epsilon / 4)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, targeted = batch.view, batch.target is not None
        epsilon, left = tf.constant(self.epsilon, tf.float32), iter(self.lengths)
        if self.sigma is None:
            sigma = [np.random.default_rng([self.seed, number]).uniform() for number in batch.number]
        else:
            sigma = np.full(len(start), self.sigma)
        key = ("dynamic", self.norm, targeted, self.early_stop)
        step = view.function(key, lambda: _build_step(view, self.ball, targeted, self.early_stop))
        state = batch.state(start) | {"sigma": tf.constant(np.asarray(sigma, "float32"))}
        final, spent = search(lambda state: step(state, epsilon, tf.constant(next(left))), state, self.steps)
        return Candidates(final["x"], spent, final["zero"])

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Inside a training step: all steps from the sample, with a sigma of its own for each sample where it is drawn."""
        each = self.lengths

        def perturb(x, y, seeds):
            sigma = tf.cast(seeds, tf.float32) / 2.0**31 if self.sigma is None else tf.fill([tf.shape(x)[0]], float(self.sigma))

            def descend(index, at):
                direction, _, _ = _direction(view, self.ball, False, at, y, sigma)
                return (step_along(at, x, direction, tf.constant(each)[index], self.epsilon, self.ball, view.bounds),)

            return in_the_graph(descend, (x,), self.steps)[0]

        return perturb


def _direction(view, ball, targeted, x, aim, sigma, free=None):
    """Where the weighted step goes, flat, what the model says of `x`, and where there is nothing to follow."""
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        scores, suspicion, label = view.forward(x)
        cost = CrossEntropy().value(scores, suspicion, aim, aim if targeted else None, (1.0, 1.0))
    gradient = gradient_or_error(view, tape, cost, x, free)
    sigma = sigma[:, None]
    direction, zero = (1 - sigma) * steepest(x, gradient, ball, view.bounds), all_zero(gradient) | (sigma[:, 0] == 1)
    if suspicion is not None:
        gradient = gradient_or_error(view, tape, suspicion, x, free)
        direction += sigma * steepest(x, gradient, ball, view.bounds)
        zero &= all_zero(gradient) | (sigma[:, 0] == 0)
    del tape
    # Of the gradients and not of the direction: two that oppose each other at a sigma of one half are not masked.
    return direction, label, zero


def _build_step(view, ball, targeted, early_stop):
    def step(state, epsilon, length):
        x = state["x"]
        direction, label, stuck = _direction(view, ball, targeted, x, state["aim"], state["sigma"], state.get("free"))
        success = succeeds(label, state)
        moved = step_along(x, state["clean"], direction, length, epsilon, ball, view.bounds)
        state = dict(state)
        state["x"] = tf.where(tf.reshape(success, [-1] + [1] * (len(x.shape) - 1)), x, moved) if early_stop else moved
        state["zero"] |= stuck & ~success
        if early_stop:
            state["done"] = success
        return state

    return step
