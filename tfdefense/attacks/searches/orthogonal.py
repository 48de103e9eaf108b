from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.objectives import margin
from tfdefense.attacks.searches.loop import check_search, lengths_of, search
from tfdefense.attacks.searches.projected import all_zero, carried, momentum, move


@dataclass(frozen=True)
class OrthogonalPGD(Attack):
    """PGD against classifier and detector that steps on one of them at a time and does not undo the other.

    While a sample is classified right, the step lowers the class margin; once it is misclassified, it lowers the suspicion.
    The orthogonal form takes from that gradient the part along which the other term changes; a step in l2 then leaves that
    term alone to first order, one in linf, along signs, only roughly. On a model that rejects nothing only the margin is left.

    Args:
        epsilon: Size of the ball.
        norm: "linf", "l2" or "l1".
        steps: Gradient steps.
        step_size: Length of the first step; by default epsilon, or 2.5 * epsilon / steps where all are alike.
        form: "selective", or "orthogonal", which is left with little to step on where the two gradients are parallel, as on
            thresholded scores.
        starts: Where to begin, as in `PGD`.
        restarts: Random starts, where `starts` has any.
        seed: Of the random starts.
        schedule, targets, momentum: As of `PGD`.

    Example:

    >>> result = OrthogonalPGD(0.2, steps=5)(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Bryniarski et al., 2022, Evading adversarial example detection defenses with orthogonal projected gradient
    descent.
    """

    epsilon: float
    norm: str = "linf"
    steps: int = 100
    step_size: float | None = None
    form: str = "selective"
    starts: tuple | str | None = None
    restarts: int = 1
    seed: int = 0
    schedule: str = "cosine"
    targets: int = 0
    momentum: float | None = None

    def __post_init__(self):
        check_search(self)
        if self.form not in ("orthogonal", "selective"):
            raise ValueError(f"`form` must be 'orthogonal' or 'selective'. Received: {self.form!r}.")

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, targeted = batch.view, batch.target is not None
        epsilon, left = tf.constant(self.epsilon, tf.float32), iter(lengths_of(self, 2.5 * self.epsilon / self.steps))
        share = tf.constant(momentum(self), tf.float32)
        step = view.function(
            ("orthogonal", self.norm, self.form, targeted),
            lambda: _build_step(view, self.ball, self.form == "orthogonal", targeted),
        )
        state = batch.state(start) | {"velocity": tf.zeros(start.shape)}
        # A done row's `x` is where it was first seen to succeed.
        final, spent = search(lambda state: step(state, epsilon, tf.constant(next(left)), share), state, self.steps)
        return Candidates(final["x"], spent, final["zero"])


def _build_step(view, ball, orthogonal, targeted):
    def step(state, epsilon, length, share):
        x, aim = state["x"], state["aim"]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, suspicion, label = view.forward(x)
            lead = margin(scores, aim, aim if targeted else None)
            turn = lead if suspicion is None else tf.where(lead < 0, suspicion, lead)
        gradient = gradient_or_error(view, tape, lead, x, state.get("free"))
        if suspicion is not None:
            other = gradient_or_error(view, tape, suspicion, x, state.get("free"))
            if orthogonal:
                wrong = tf.reshape(lead < 0, [-1] + [1] * (len(x.shape) - 1))
                gradient = _without(tf.where(wrong, other, gradient), tf.where(wrong, gradient, other))
            else:
                # One way back for what each sample is after: those above tell that there are two, and are not run.
                gradient = gradient_or_error(view, tape, turn, x, state.get("free"))
        del tape
        success = succeeds(label, state)
        velocity = carried(state["velocity"], gradient, share)
        moved = move(x, state["clean"], velocity, length, epsilon, ball, view.bounds)
        state = dict(state)
        state["velocity"] = velocity
        state["x"] = tf.where(tf.reshape(success, [-1] + [1] * (len(x.shape) - 1)), x, moved)
        state["zero"] |= all_zero(gradient) & ~success
        state["done"] = success
        return state

    return step


def _without(chosen, kept):
    """`chosen` less its part along `kept`; all of it where the two are parallel and nothing would be left."""
    axes = tuple(range(1, len(chosen.shape)))

    def unit(gradient):
        gradient /= tf.maximum(tf.reduce_max(tf.abs(gradient), axes, keepdims=True), 1e-30)
        return gradient / tf.maximum(tf.sqrt(tf.reduce_sum(gradient**2, axes, keepdims=True)), 1e-12)

    along, own = unit(kept), unit(chosen)
    rest = own - along * tf.reduce_sum(own * along, axes, keepdims=True)
    size = tf.sqrt(tf.reduce_sum(rest**2, axes, keepdims=True))
    return tf.where(size > np.float32(1e-4), rest, own)
