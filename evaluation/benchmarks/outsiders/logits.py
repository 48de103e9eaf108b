"""A defended model as other libraries can attack it: a classifier with one class more, which is that of rejection."""

import keras
import tensorflow as tf

import tfdefense.layers  # noqa: F401 - Keras must know them before it opens a model

PROBES = 64
BINS = (0.25, 0.75)


class Logits:
    """C + 1 logits of a defended model: its scores, and the largest score plus its suspicion.

    The last leads exactly where the model rejects. Suspicion is in units of its own: it is scaled to the spread of the margins on
    clean samples, which changes no decision. Where the suspicion has no gradient, as behind discrete codes, that of the
    differentiable surrogate stands in; the values remain the model's.

    Args:
        model: The defended model.
        x: Clean samples.
    """

    def __init__(self, model, x):
        self.shape, self.classes = model.inputs[0].shape[1:], model.output["scores"].shape[-1]
        x = tf.constant(x)
        self._attacked = self._with_gradients(model, x[:PROBES])
        outputs = model(x, training=False)
        best = tf.math.top_k(outputs["scores"], 2).values
        margin, suspicion = best[:, 0] - best[:, 1], outputs["suspicion"]
        self.unit = spread(margin) / spread(suspicion)
        # Log-sum-exp of scores that lie close together, as those of SVMs, would count all classes alike.
        self.temperature = min(1.0, float(keras.ops.std(margin)) / 4)
        self.compiled = tf.function(self._logits, input_signature=[tf.TensorSpec((None, *self.shape))])

    def _with_gradients(self, model, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            suspicion = model(x, training=False)["suspicion"]
        gradient = tape.gradient(suspicion, x)
        self.surrogate = gradient is None or bool(tf.reduce_mean(tf.cast(_is_zero(gradient), tf.float32)) > 0.5)
        if not self.surrogate:
            return model
        from tfdefense.attacks.surrogate import differentiable

        return differentiable(model, exact_forward=True)

    def _logits(self, x):
        outputs = self._attacked(x, training=False)
        scores, suspicion = outputs["scores"], outputs["suspicion"]
        rejection = tf.reduce_max(scores, axis=1) + self.unit * suspicion
        return tf.concat([scores, rejection[:, None]], axis=1)

    def __call__(self, x, training=False):
        return self.compiled(x)

    def decide(self, x, batch=256):
        """The leading class of each sample of an array: that of rejection is C."""
        parts = [tf.argmax(self(tf.constant(x[i : i + batch])), 1).numpy() for i in range(0, len(x), batch)]
        return tf.concat(parts, 0).numpy()


def spread(values):
    """The interquartile range: a few samples far away would hide how the others differ."""
    low, high = (keras.ops.quantile(values, share) for share in BINS)
    return max(float(high - low), 1e-6)


def _is_zero(gradient):
    return tf.reduce_all(gradient == 0, axis=list(range(1, len(gradient.shape))))
