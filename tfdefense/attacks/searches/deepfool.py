from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.result import AttackResult
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
        top: The new class must lie outside so many classes that the model finds likeliest of the clean sample: 5 is the paper of
            SafetyNet's DeepFool-5, for sets with more than ten classes. 1 asks for a wrong class.
        starts: Where to begin, as in `PGD`.
        seed: Of random starts.

    Example:

    >>> DeepFool()(model, x, y).norm
    'l2'
    >>> likeliest = model(x).numpy().argsort(-1)[:, -3:]
    >>> found = DeepFool(top=3)(model, x, y)
    >>> bool((found.label[found.success, None] == likeliest[found.success]).any())
    False

    Reference: Moosavi-Dezfooli et al., 2016, DeepFool: a simple and accurate method to fool deep neural networks; `top`: Lu et al.,
    2017, SafetyNet, figure 3.
    """

    norm: str = "l2"
    steps: int = 50
    overshoot: float = 0.02
    candidates: int = 5
    starts: tuple | str = ("sample",)
    seed: int = 0
    top: int = 1

    def __post_init__(self):
        norm_named(self.norm, ("l2", "linf"))
        check_number("steps", self.steps, low=1, whole=True)
        check_number("overshoot", self.overshoot)
        check_number("candidates", self.candidates, low=1, whole=True)
        check_number("top", self.top, low=1, whole=True)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        if batch.target is not None:
            raise ValueError("DeepFool has no targeted form. Use `CarliniWagner` or `PGD` with `target`.")
        view, banned = batch.view, self._banned(batch)
        # Of the true class alone all others are left; a sample that was wrong from the start may have one more to leave.
        count = min(self.candidates, view.classes - int(banned.sum(-1).max()))
        step = view.function(("deepfool", self.norm, count), lambda: _build_step(view, self.norm, count))
        # `plain` is what the linear steps have added up to, `x` the point with the overshoot that the model is asked about.
        state = batch.state(start) | {"plain": tf.constant(start), "banned": tf.constant(banned)}
        overshoot = tf.constant(1 + self.overshoot, tf.float32)
        final, spent = search(lambda state: step(state, overshoot), state, self.steps + 1)
        return Candidates(final["x"], np.minimum(spent, self.steps), final["zero"])

    def _banned(self, batch):
        """Which classes the new one must not be: the true one, and the `top` likeliest of the clean sample."""
        rows, classes = np.arange(len(batch.y)), batch.view.classes
        banned = np.zeros((len(rows), classes), bool)
        banned[rows, batch.y] = True
        if self.top > 1:
            if self.top >= classes:
                raise ValueError(f"`top` must leave a class outside, so be at most {classes - 1}. Received: {self.top}.")
            scores = batch.view.run(batch.x)[0].numpy()
            banned[rows[:, None], np.argsort(-scores, -1, kind="stable")[:, : self.top]] = True
            if banned.all(-1).any():
                raise ValueError(
                    f"`top` must leave a class outside. Received: {self.top} of {classes} classes, and a sample whose "
                    "true class is the last of them. Take a smaller one."
                )
        return banned

    def _judge(self, batch: Batch, found: Candidates) -> AttackResult:
        result = super()._judge(batch, found)
        if self.top == 1:
            return result
        outside = ~self._banned(batch)[np.arange(len(batch.y)), np.maximum(result.label, 0)]
        return dataclasses.replace(result, success=result.success & outside)


def _build_step(view, norm, count):
    low, high = view.bounds

    def step(state, overshoot):
        x, clean, banned = state["x"], state["clean"], state["banned"]
        shape = tf.shape(x)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, suspicion, label = view.forward(x)
            # The likeliest of those to leave, and all others.
            lowest = tf.constant(scores.dtype.min, scores.dtype)
            own, others = tf.reduce_max(tf.where(banned, scores, lowest), -1), tf.where(banned, lowest, scores)
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
        success = (label != -1) & ~tf.gather(banned, tf.maximum(label, 0), batch_dims=1)
        plain = state["plain"] + tf.reshape(push, shape)
        state = dict(state)
        state["plain"] = plain
        moved = tf.clip_by_value(clean + overshoot * (plain - clean), low, high)
        state["x"] = tf.where(tf.reshape(success, [-1] + [1] * (len(x.shape) - 1)), x, moved)
        state["zero"] |= stuck & ~success
        state["done"] = success
        return state

    return step
