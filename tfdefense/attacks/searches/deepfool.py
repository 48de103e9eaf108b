from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.objectives import split
from tfdefense.attacks.searches.loop import search
from tfdefense.attacks.searches.projected import all_zero


@dataclass(frozen=True)
class DeepFool(Attack):
    """Steps to the nearest boundary of the model made linear, again and again, until the class changes.

    On a model that rejects, a sample of the wrong class goes on to the boundary of rejection in the same way.

    Args:
        norm: "l2" or "linf".
        steps: Iterations allowed.
        overshoot: Share by which the whole perturbation is lengthened, to end beyond the boundary.
        candidates: How many of the likeliest wrong classes are looked at in each step; each costs a backward pass.
        starts: Where to begin, as in `PGD`.
        seed: Of random starts.

    Example:

    >>> DeepFool()(model, x, y).norm
    'l2'

    Reference: Moosavi-Dezfooli et al., 2016, DeepFool: a simple and accurate method to fool deep neural networks.
    """

    norm: str = "l2"
    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 5
    starts: tuple | str = ("sample",)
    seed: int = 0

    def __post_init__(self):
        norm_named(self.norm, ("l2", "linf"))
        check_number("steps", self.steps, low=1, whole=True)
        check_number("overshoot", self.overshoot)
        check_number("candidates", self.candidates, low=1, whole=True)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        if batch.target is not None:
            raise ValueError("DeepFool has no targeted form. Use `CarliniWagner` or `PGD` with `target`.")
        view = batch.view
        count = min(self.candidates, view.classes - 1)
        step = view.function(("deepfool", self.norm, count), lambda: _build_step(view, self.norm, count))
        # `plain` is what the linear steps have added up to, `x` the point with the overshoot that the model is asked about.
        state = batch.state(start) | {"plain": tf.constant(start)}
        overshoot = tf.constant(1 + self.overshoot, tf.float32)
        final, spent = search(lambda state: step(state, overshoot), state, self.steps + 1)
        return Candidates(final["x"], np.minimum(spent, self.steps), final["zero"])


def _build_step(view, norm, count):
    low, high = view.bounds

    def step(state, overshoot):
        x, clean, aim = state["x"], state["clean"], state["aim"]
        shape = tf.shape(x)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, suspicion, label = view.forward(x)
            own, others = split(scores, aim)
            lead, classes = tf.math.top_k(others, count)
            # One difference a class: each backward pass then gives one row of the Jacobian that matters.
            leads = [own - tf.gather(scores, classes[:, i], batch_dims=1) for i in range(count)]
        best = tf.fill([shape[0]], np.float32(np.inf))
        push = tf.zeros([shape[0], int(np.prod(x.shape[1:]))])
        stuck = tf.ones([shape[0]], tf.bool)

        def consider(value, allowed, best, push, stuck):
            gradient = tf.reshape(gradient_or_error(view, tape, value, x, state.get("free")), tf.shape(push))
            length = tf.norm(gradient, axis=-1) if norm == "l2" else tf.reduce_sum(tf.abs(gradient), -1)
            distance = (tf.abs(value) + 1e-4) / tf.maximum(length, 1e-20)
            direction = gradient / tf.maximum(length, 1e-20)[:, None] if norm == "l2" else tf.sign(gradient)
            nearer = allowed & (distance < best) & (length > 0)
            push = tf.where(nearer[:, None], -distance[:, None] * direction, push)
            return tf.where(nearer, distance, best), push, stuck & (all_zero(gradient) | ~allowed)

        wrong = tf.reduce_any(tf.stack(leads) < 0, 0) & (suspicion is not None)
        for value in leads:
            best, push, stuck = consider(value, ~wrong, best, push, stuck)
        if suspicion is not None:
            best, push, stuck = consider(suspicion, wrong, best, push, stuck)
        success = (label != aim) & (label != -1)
        plain = state["plain"] + tf.reshape(push, shape)
        state = dict(state)
        state["plain"] = plain
        moved = tf.clip_by_value(clean + overshoot * (plain - clean), low, high)
        state["x"] = tf.where(tf.reshape(success, [-1] + [1] * (len(x.shape) - 1)), x, moved)
        state["zero"] |= stuck & ~success
        state["done"] = success
        return state

    return step
