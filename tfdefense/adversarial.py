"""Training against an attacker who sees the model as it is at that step."""

import keras
import tensorflow as tf

from tfdefense.attacks import Attack
from tfdefense.decisions import View
from tfdefense.graph import as_functional


class AdversarialTraining(keras.Model):
    """A model whose `fit` attacks a part of each batch first. It shares its weights with the one it is made from.

    FGSM, BIM, ILCM and PGD run inside the compiled training step (from the sample, or from a random point of the ball);
    any other attack runs beside it, which is slower and takes no part in a distribution strategy.
    Attacks see the model with `training=False` and need classes as integers.

    Args:
        model: A classifier or a defended model; `save` writes this one, in its own form.
        attacks: An attack, or a list: each perturbed sample gets one of them.
        share: Probability that a sample is perturbed.
        target: The model that is attacked, where it is another than the one trained, such as one with both heads.
        bounds: Lowest and highest pixel value; a defended model knows its own, otherwise (0, 1).
        seed: Of the choice of samples and of random starts.

    Example:

    >>> trainer = td.AdversarialTraining(model, td.attacks.PGD(0.1, steps=5, random_start=True), share=0.5)
    >>> trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = trainer.fit(x, y, verbose=0)

    Reference: Madry et al., 2018, Towards deep learning models resistant to adversarial attacks.
    """

    def __init__(self, model, attacks, *, share=1.0, target=None, bounds=None, seed=0):
        trained = as_functional(model)
        super().__init__(trained.inputs[0], trained.output, name=f"{trained.name}_attacked")
        attacks = list(attacks) if isinstance(attacks, list | tuple) else [attacks]
        wrong = next((attack for attack in attacks if not isinstance(attack, Attack)), None)
        if not attacks or wrong is not None:
            raise ValueError(f"Expected attacks, such as `td.attacks.FGSM(0.1)`. Received: {wrong!r}.")
        if not 0 < share <= 1:
            raise ValueError(f"`share` must be above 0 and at most 1. Received: {share!r}.")
        # Not as attributes: Keras would take a model for a layer of this one, and save its weights twice.
        self._hidden = {"trained": trained, "target": target or model}
        self.attacks, self.share, self.attacked_bounds = attacks, share, bounds
        self.chance = keras.random.SeedGenerator(seed)

    @property
    def trained(self):
        """The model that this one was made from, with the weights as they are now."""
        return self._hidden["trained"]

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x, perturbed = self.perturb(x, y)
        return super().train_step((x, self.labels(y, perturbed), weight))

    def labels(self, y, perturbed):
        """What the perturbed batch is trained towards: the true classes. A detector asks for `perturbed` instead."""
        return y

    def perturb(self, x, y):
        """The batch with a part of it attacked, and which samples these are."""
        if not getattr(y, "dtype", tf.float32).is_integer or len(y.shape) > 2 or (len(y.shape) == 2 and y.shape[-1] != 1):
            raise ValueError(f"Expected integer classes, one a sample. Received {y!r}. For one-hot labels: `y.argmax(-1)`.")
        view = View.of(self._hidden["target"], self.attacked_bounds)
        with tf.init_scope():
            low, high = view.bounds
            view.learn(tf.fill([1, *x.shape[1:]], (low + high) / 2).numpy())
        x, y = tf.cast(x, tf.float32), tf.cast(tf.reshape(y, [-1]), tf.int32)
        drawn = tf.reshape(keras.random.uniform((2 * tf.shape(x)[0],), seed=self.chance), [2, -1])
        count = len(self.attacks)
        which = tf.minimum(tf.cast(drawn[1] * count, tf.int32), count - 1)
        which = tf.where(drawn[0] < self.share, which, count)
        seed = tf.cast(self.chance.next()[0], tf.int32) & 0x7FFFFFFF
        rows = tf.dynamic_partition(tf.range(tf.shape(x)[0]), which, count + 1)
        parts = [
            attack.online(view)(tf.gather(x, own), tf.gather(y, own), seed + number)
            for number, (attack, own) in enumerate(zip(self.attacks, rows, strict=False))
        ]
        mixed = tf.dynamic_stitch(rows, [*parts, tf.gather(x, rows[-1])])
        return tf.stop_gradient(tf.ensure_shape(mixed, x.shape)), which < count

    def save(self, filepath, **options):
        """Saves the model that is trained, without the attack."""
        self.trained.save(filepath, **options)
