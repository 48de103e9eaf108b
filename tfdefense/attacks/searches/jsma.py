from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number, range_of
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.objectives import split
from tfdefense.attacks.searches.loop import search
from tfdefense.attacks.searches.projected import all_zero

PAIRS_OF = 10_000  # the pairs of so many values take half a gigabyte


@dataclass(frozen=True)
class JSMA(Attack):
    """Changes the pixels that lift the target's score most while they lower the others', again and again.

    Without a target it goes for the likeliest wrong class. The distance is l2; few pixels change. Saliency is taken of the
    scores, of pairs of pixels or of single ones; others take it of probabilities.

    Args:
        theta: What a chosen pixel gains in one step, as a share of the bounds' range; negative darkens.
        gamma: Share of the pixels that may be changed.
        pixels: How many change in a step: 2 for the best of all pairs, as in the reference; 1 for the best single pixel, which
            costs far less, and stops where no pixel alone is of use.
        starts: Where to begin, as in `PGD`.
        seed: Of random starts.

    Example:

    >>> result = JSMA(gamma=0.1)(model, x, y)
    >>> bool(((result.x_adv != x).reshape(len(x), -1).mean(-1) <= 0.1).all())
    True
    >>> single = JSMA(gamma=0.1, pixels=1)(model, x, y, "least_likely")
    >>> bool(((single.x_adv != x).reshape(len(x), -1).mean(-1) <= 0.1).all())
    True

    Reference: Papernot et al., 2016, The limitations of deep learning in adversarial settings.
    """

    theta: float = 1.0
    gamma: float = 0.1
    starts: tuple | str = ("sample",)
    seed: int = 0
    pixels: int = 2

    default_target = "most_likely"

    def __post_init__(self):
        check_number("theta", abs(self.theta) if isinstance(self.theta, int | float) else self.theta, above=True)
        check_number("gamma", self.gamma, above=True)
        if self.gamma > 1:
            raise ValueError(f"`gamma` must be a share of the pixels, at most 1. Received: {self.gamma!r}.")
        if self.pixels not in (1, 2) or isinstance(self.pixels, bool):
            raise ValueError(f"`pixels` must be 2, for pairs, or 1, for single pixels. Received: {self.pixels!r}.")

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, up = batch.view, self.theta > 0
        low, high = range_of(view.bounds, "JSMA")
        features = int(np.prod(start.shape[1:]))
        # As many steps as the changed pixels and their way to the bounds allow.
        steps = int(np.ceil(features * self.gamma / self.pixels + 1e-9)) * int(np.ceil(1 / abs(self.theta)))
        step = view.function(("jsma", up, self.pixels), lambda: _build_step(view, up, self.pixels))
        # What a start has changed already counts.
        changed = (start != batch.x).reshape(len(start), features)
        allowed = int(features * self.gamma + 1e-9)
        if changed.sum(-1).max(initial=0) > allowed:
            raise ValueError(
                f"JSMA may change {allowed} of {features} values here, a start has changed {changed.sum(-1).max()}. Expected "
                'starts that change few: `starts=("sample",)`.'
            )
        state = batch.state(start) | {"changed": tf.constant(changed)}
        theta = tf.constant(self.theta * (high - low), tf.float32)
        allowed = tf.constant(allowed, tf.int32)
        final, spent = search(lambda state: step(state, theta, allowed), state, steps + 1)
        return Candidates(final["x"], np.minimum(spent, steps), final["zero"])


def _build_step(view, up, pixels):
    low, high = view.bounds

    def step(state, theta, allowed):
        x, aim = state["x"], state["aim"]
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, _, label = view.forward(x)
            wanted, _ = split(scores, aim)
            rest = tf.reduce_sum(tf.where(tf.math.is_finite(scores), scores, 0), -1) - wanted
        flat = [tf.shape(x)[0], int(np.prod(x.shape[1:]))]
        gain = tf.reshape(gradient_or_error(view, tape, wanted, x, state.get("free")), flat)
        loss = tf.reshape(gradient_or_error(view, tape, rest, x, state.get("free")), flat)
        del tape
        at = tf.reshape(x, flat)
        budget_left = tf.reduce_sum(tf.cast(state["changed"], tf.int32), -1) + pixels <= allowed
        free = (at < high if up else at > low) & (state["changed"] | budget_left[:, None])
        if "free" in state:
            free &= tf.reshape(state["free"], flat)
        best = _best_pair if pixels == 2 else _best_pixel
        *numbers, found = best(gain if up else -gain, loss if up else -loss, free)
        success = label == aim
        chosen = functools.reduce(tf.logical_or, (tf.one_hot(number, flat[1], True, False, dtype=tf.bool) for number in numbers))
        chosen &= (found & ~success)[:, None]
        state = dict(state)
        state["x"] = tf.reshape(tf.clip_by_value(at + theta * tf.cast(chosen, at.dtype), low, high), tf.shape(x))
        state["changed"] |= chosen
        state["zero"] |= all_zero(gain) & ~success
        state["done"] = success | ~found
        return state

    return step


def _best_pixel(gain, loss, free):
    """The free pixel with the largest (gain of the target) * (loss of the rest), where both are of use."""
    # Positive only where the rest loses, too.
    saliency = tf.where(free & (gain > 0), gain * -loss, -1.0)
    best = tf.argmax(saliency, -1, output_type=tf.int32)
    return best, tf.reduce_max(saliency, -1) > 0


def _best_pair(gain, loss, free):
    """The free pair of pixels with the largest (gain of the target) * (loss of the rest), where both are of use."""
    features = gain.shape[-1]
    if features > PAIRS_OF:
        raise ValueError(
            f"JSMA weighs all pairs of values that may change. Expected samples of at most {PAIRS_OF:,} values. Received "
            f"{features:,}, {features**2:.1e} pairs for each step. Take single ones: `JSMA(pixels=1)`."
        )
    upper = tf.linalg.band_part(tf.ones((features, features), tf.bool), 0, -1) & ~tf.eye(features, dtype=tf.bool)

    def one(inputs):
        gain, loss, free = inputs
        lifts, lowers = gain[:, None] + gain[None], -(loss[:, None] + loss[None])
        use = upper & free[:, None] & free[None] & (lifts > 0) & (lowers > 0)
        saliency = tf.reshape(tf.where(use, lifts * lowers, -1.0), [-1])
        best = tf.argmax(saliency, output_type=tf.int32)
        return best // features, best % features, saliency[best] > 0

    # Sample by sample: all pairs of 784 pixels are 600,000 numbers each, those of a batch would be a gigabyte.
    return tf.map_fn(one, (gain, loss, free), fn_output_signature=(tf.int32, tf.int32, tf.bool), parallel_iterations=2)
