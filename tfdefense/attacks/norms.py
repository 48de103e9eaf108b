"""Norm balls: how far a perturbation may go, which way is steepest, how to come back inside.

Every function works on a batch of perturbations flattened to (batch, features). `epsilon` is one number, or a column of one for
each row. `length` is `distance` inside a step; `dual` names the norm in which a slope is the gain of a step of length 1.
`random` draws by NumPy, `point` makes random points inside a graph, from `numbers(features)` uniform numbers each.
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

    def numbers(self, features):
        return features

    def point(self, drawn, features, epsilon):
        return epsilon * (2 * drawn - 1)

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

    def numbers(self, features):
        return 2 * ((features + 1) // 2) + 1

    def point(self, drawn, features, epsilon):
        # Box-Muller: two uniform numbers make two normal ones.
        first, second = tf.split(drawn[:, 1:], 2, -1)
        length, angle = tf.sqrt(-2 * tf.math.log(first)), 2 * math.pi * second
        normal = tf.concat([length * tf.cos(angle), length * tf.sin(angle)], -1)[:, :features]
        return epsilon * drawn[:, :1] ** (1 / features) * normal / tf.norm(normal, axis=-1, keepdims=True)

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

    def numbers(self, features):
        return 2 * features + 1

    def point(self, drawn, features, epsilon):
        spacing = -tf.math.log(drawn[:, features:])
        share = spacing[:, :-1] / tf.reduce_sum(spacing, -1, keepdims=True)
        return epsilon * tf.sign(drawn[:, :features] - 0.5) * share

    def distance(self, delta):
        return np.abs(delta).sum(-1)

    def length(self, delta):
        return tf.reduce_sum(tf.abs(delta), -1)


NORMS: dict[str, Linf | L2 | L1] = {norm.name: norm for norm in (Linf(), L2(), L1())}


def uniform(seeds, count):
    """So many numbers above 0 and below 1 from each seed, an int32: the same ones whatever other seeds there are, and in a graph.

    A counter that begins where the seed says goes through a hash of 32 bits, in integers of 64, which every device has.
    """
    begin = _hashed(_low(tf.cast(seeds, tf.int64)))
    found = _hashed(_low(begin[:, None] + 0x9E3779B9 * tf.range(1, count + 1, dtype=tf.int64)))
    # 23 bits and a half are what float32 holds on both sides of 1/2, so that none becomes 1.
    return (tf.cast(tf.bitwise.right_shift(found, tf.constant(9, tf.int64)), tf.float32) + 0.5) / 2.0**23


def _hashed(numbers):
    """Of 32 bits each. Reference: Wellons, 2018, Prospecting for hash functions."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        numbers = tf.bitwise.bitwise_xor(numbers, tf.bitwise.right_shift(numbers, tf.constant(shift, tf.int64)))
        if factor > 1:
            numbers = _low(numbers * factor)
    return numbers


def _low(numbers):
    """Their lowest 32 bits."""
    return tf.bitwise.bitwise_and(numbers, tf.constant(0xFFFFFFFF, tf.int64))


def norm_named(name, allowed=tuple(NORMS)):
    if name not in allowed:
        raise ValueError(f"`norm` must be one of {', '.join(map(repr, allowed))}. Received: {name!r}.")
    return NORMS[name]


def within(distance, size):
    # float32 gives 0.10000002 for 0.1
    return distance <= size * (1 + 1e-5) + 1e-7
