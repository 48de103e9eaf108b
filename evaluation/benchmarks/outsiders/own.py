"""An attack in plain TensorFlow that shares no code with the library's: annealed steps with momentum, from images of other classes.

It sees a model as logits alone, the last of which is that of rejection. The loss is log-sum-exp over the wrong classes less
log-sum-exp over the true class and rejection: positive where a wrong class has most of the weight.
"""

import numpy as np
import tensorflow as tf

MOMENTUM = 0.75
BATCH = 256


def project(x, start, size, norm):
    """The nearest point of the ball around x, clipped to the pixel bounds."""
    change = start - x
    if norm == "linf":
        change = tf.clip_by_value(change, -size, size)
    else:
        change *= tf.minimum(1.0, size / tf.maximum(_length(change), 1e-12))
    return tf.clip_by_value(x + change, 0.0, 1.0)


def _length(change):
    flat = tf.reshape(change, (tf.shape(change)[0], -1))
    return tf.reshape(tf.norm(flat, axis=1), (-1, *[1] * (len(change.shape) - 1)))


def succeeds(logits, y):
    """Whether a wrong class leads, neither the true one nor rejection."""
    best = tf.argmax(logits, 1, output_type=tf.int32)
    return (best != y) & (best != logits.shape[1] - 1)


def _difference(largest):
    def loss(logits, y):
        classes = logits.shape[1]
        harmless = tf.one_hot(y, classes, on_value=True, off_value=False) | (tf.range(classes) == classes - 1)
        return largest(tf.where(harmless, -np.inf, logits), axis=1) - largest(tf.where(harmless, logits, -np.inf), axis=1)

    return loss


# Of the wrong classes, less that of the true one and rejection: with maxima it is positive exactly where the attack has succeeded.
LOSSES = {"log-sum-exp": _difference(tf.reduce_logsumexp), "maximum": _difference(tf.reduce_max)}


class Attack:
    """The attack on one model.

    Args:
        logits: Gives a batch's logits as a tensor, and has gradients.
        shape: Of one sample.
        loss: Name of one of `LOSSES`.
        temperature: Logits are divided by it.
    """

    def __init__(self, logits, shape, norm, loss="log-sum-exp", temperature=1.0):
        self.logits, self.norm, self.loss, self.temperature = logits, norm, LOSSES[loss], temperature
        batch, number = tf.TensorSpec((None, *shape)), tf.TensorSpec(())
        signature = (batch, batch, batch, tf.TensorSpec((None,), tf.int32), number, number)
        self.step = tf.function(self._step, input_signature=signature)

    def _step(self, x, adv, momentum, y, size, step):
        with tf.GradientTape() as tape:
            tape.watch(adv)
            logits = self.logits(adv)
            value = self.loss(logits / self.temperature, y)
        gradient = tape.gradient(value, adv)
        gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
        mean = tf.reduce_mean(tf.abs(gradient), axis=list(range(1, len(adv.shape))), keepdims=True)
        momentum = MOMENTUM * momentum + gradient / tf.maximum(mean, 1e-20)
        change = tf.sign(momentum) if self.norm == "linf" else momentum / tf.maximum(_length(momentum), 1e-12)
        return succeeds(logits, y), project(x, adv + step * change, size, self.norm), momentum

    def __call__(self, x, y, start, size, steps):
        """The last successful point of each sample, and whether there is one."""
        parts = [slice(begin, begin + BATCH) for begin in range(0, len(x), BATCH)]
        found, done = zip(*(self._search(x[part], y[part], start[part], size, steps) for part in parts), strict=True)
        return np.concatenate(found), np.concatenate(done)

    def _search(self, x, y, start, size, steps):
        x0, y, size = tf.constant(x), tf.constant(y, tf.int32), tf.constant(size, tf.float32)
        adv, momentum = project(x0, tf.constant(start), size, self.norm), tf.zeros_like(x0)
        found, done = x.copy(), np.zeros(len(x), bool)
        for number in range(steps + 1):
            step = tf.constant(float(size) * (1 + np.cos(np.pi * number / steps)) / 2, tf.float32)
            right, after, momentum = self.step(x0, adv, momentum, y, size, step)
            right = right.numpy()
            found[right], done = adv.numpy()[right], done | right
            if done.all():
                break
            adv = after
        return found, done
