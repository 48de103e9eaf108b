"""Norm balls: how far a perturbation may go, which way is steepest, how to come back inside.

Every function works on a batch of perturbations flattened to (batch, features). `epsilon` is one number, or a column of one for
each row. `length` is `distance` inside a step; `dual` names the norm in which a slope is the gain of a step of length 1.
"""

import math

import numpy as np
import tensorflow as tf


class Linf:
    name = "linf"
    dual = "l1"

    def project(self, delta, epsilon):
        return tf.clip_by_value(delta, -epsilon, epsilon)

    def steepest(self, gradient, free):
        return tf.sign(gradient)

    def random(self, rng, shape, epsilon):
        return rng.uniform(-epsilon, epsilon, shape)

    def distance(self, delta):
        return np.abs(delta).max(-1)

    def length(self, delta):
        return tf.reduce_max(tf.abs(delta), -1)


class L2:
    name = "l2"
    dual = "l2"

    def project(self, delta, epsilon):
        length = tf.norm(delta, axis=-1, keepdims=True)
        return delta * tf.minimum(1.0, epsilon / tf.maximum(length, 1e-30))

    def steepest(self, gradient, free):
        # Divided by its largest entry first: the squares of a tiny gradient vanish in float32.
        gradient = gradient / tf.maximum(tf.reduce_max(tf.abs(gradient), -1, keepdims=True), 1e-30)
        return gradient / tf.maximum(tf.norm(gradient, axis=-1, keepdims=True), 1e-12)

    def random(self, rng, shape, epsilon):
        direction = rng.standard_normal(shape)
        direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
        # The power makes the points uniform over the ball's volume.
        return direction * epsilon * rng.uniform(size=(shape[0], 1)) ** (1 / shape[1])

    def distance(self, delta):
        return np.sqrt(np.square(delta).sum(-1))

    def length(self, delta):
        return tf.norm(delta, axis=-1)


class L1:
    """Steps go along the 5 % of free pixels with the steepest slope: one pixel a step is slow, all pixels is not l1.

    Reference: Tramèr and Boneh, 2019, Adversarial training and robustness for multiple perturbations.
    """

    name = "l1"
    dual = "linf"
    share = 0.05

    def project(self, delta, epsilon):
        size = tf.abs(delta)
        ordered = tf.sort(size, direction="DESCENDING")
        above = tf.cumsum(ordered, axis=-1) - epsilon
        rank = tf.range(1, tf.shape(delta)[-1] + 1, dtype=delta.dtype)
        last = tf.reduce_sum(tf.cast(ordered * rank > above, tf.int32), -1, keepdims=True)
        shift = tf.gather(above, tf.maximum(last - 1, 0), batch_dims=1) / tf.cast(tf.maximum(last, 1), delta.dtype)
        inside = tf.reduce_sum(size, -1, keepdims=True) <= epsilon
        return tf.where(inside, delta, tf.sign(delta) * tf.maximum(size - shift, 0))

    def steepest(self, gradient, free):
        slope = tf.where(free, tf.abs(gradient), 0)
        count = max(1, math.ceil(self.share * gradient.shape[-1]))
        least = tf.math.top_k(slope, count)[0][:, -1:]
        chosen = tf.sign(gradient) * tf.cast((slope >= least) & (slope > 0), gradient.dtype)
        return chosen / tf.maximum(tf.reduce_sum(tf.abs(chosen), -1, keepdims=True), 1)

    def random(self, rng, shape, epsilon):
        # Exponential spacings are uniform on the simplex; one more of them makes the ball.
        spacing = rng.exponential(size=(shape[0], shape[1] + 1))
        spacing /= spacing.sum(-1, keepdims=True)
        return epsilon * spacing[:, :-1] * rng.choice([-1, 1], shape)

    def distance(self, delta):
        return np.abs(delta).sum(-1)

    def length(self, delta):
        return tf.reduce_sum(tf.abs(delta), -1)


NORMS: dict[str, Linf | L2 | L1] = {norm.name: norm for norm in (Linf(), L2(), L1())}


def norm_named(name, allowed=tuple(NORMS)):
    if name not in allowed:
        raise ValueError(f"`norm` must be one of {', '.join(map(repr, allowed))}. Received: {name!r}.")
    return NORMS[name]


def within(distance, size):
    # float32 gives 0.10000002 for 0.1
    return distance <= size * (1 + 1e-5) + 1e-7
