"""Adversarial training that teaches a network when to be unsure: CCAT, and rectified rejection."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfdefense._validation import Bounds, Model, Tensor, check_number
from tfdefense.attacks.norms import NORMS
from tfdefense.contract import base_model, bounds_of, is_defended, nodes_of
from tfdefense.graph import expose, unnoted
from tfdefense.layers.robust import Rectifier
from tfdefense.layers.robust.rectified import log_rectified
from tfdefense.trainers.adversarial import AdversarialTraining


class ConfidenceCalibratedTraining(AdversarialTraining):
    """Confidence-calibrated adversarial training (CCAT): the farther a sample was moved, the less sure the network shall be.

    The label of an attacked sample goes from its class to all classes alike as its perturbation grows: the class keeps the share
    (1 - length / epsilon) ** power, the rest is uniform. Beyond epsilon nothing is left, and a threshold on the confidence,
    `td.ThresholdDefense("confidence")`, rejects, in norms that were not trained on too. The class itself is not made robust:
    without the threshold this network is no better than an undefended one.

    Train against an attacker who maximises the confidence in a wrong class, `td.attacks.WrongConfidence()`. Attack what comes of it
    in the same way: an attack on the margin alone runs into the rejection.

    Args:
        model: A classifier that gives logits; `save` writes this one.
        attacks: One or several of one norm and epsilon.
        power: How fast the class loses its share.
        share: Probability that a sample is attacked.
        options: Further ones of `td.AdversarialTraining`.

    Example:

    >>> attack = td.attacks.PGD(0.3, steps=5, random_start=True, objective=td.attacks.WrongConfidence())
    >>> trainer = ConfidenceCalibratedTraining(model, attack)
    >>> trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = trainer.fit(x, y, verbose=0)

    Reference: Stutz et al., 2020, Confidence-calibrated adversarial training: generalizing to unseen attacks.
    """

    def __init__(self, model: Model, attacks: Any, *, power: float = 10.0, share: float = 0.5, **options: Any):
        super().__init__(model, attacks, share=share, **options)
        check_number("power", power, above=True)
        balls: Any = {(getattr(attack, "norm", None), getattr(attack, "epsilon", None)) for attack in self.attacks}
        if len(balls) != 1 or None in next(iter(balls)):
            told = "; ".join(
                " ".join([type(one).__name__, *(str(getattr(one, name, "")) for name in ("norm", "epsilon"))]).strip()
                for one in self.attacks
            )
            raise ValueError(f"Expected attacks of one norm and epsilon, by which labels are moved. Received: {told}.")
        _check_logits(model)
        ((self.norm, self.epsilon),), self.power = balls, float(power)

    def kept(self, delta: Tensor) -> Tensor:
        """The share that the class of each sample keeps."""
        length = NORMS[self.norm].length(tf.reshape(delta, [tf.shape(delta)[0], -1]))
        return (1.0 - tf.minimum(length / self.epsilon, 1.0)) ** self.power

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        mixed, _ = self.perturb(x, y)
        # The share goes along with the classes, to where loss and metrics take them apart.
        return super(AdversarialTraining, self).train_step((mixed, (y, self.kept(mixed - tf.cast(x, tf.float32))), weight))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if not isinstance(y, tuple):
            return super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        y, kept = y
        weight = tf.ones_like(kept) if sample_weight is None else tf.reshape(tf.cast(sample_weight, kept.dtype), [-1])
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=weight * kept, training=training)
        scores = tf.cast(y_pred["scores"] if isinstance(y_pred, dict) else y_pred, tf.float32)
        # Cross-entropy against all classes alike.
        uniform = tf.reduce_logsumexp(scores, -1) - tf.reduce_mean(scores, -1)
        return loss + _mean(weight * (1.0 - kept) * uniform)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y[0] if isinstance(y, tuple) else y, y_pred, sample_weight)


class RectifiedTraining(AdversarialTraining):
    """Adversarial training of a classifier together with the head of a `td.RectifiedRejection`.

    The head's loss is the binary cross-entropy of the rectified confidence against the probability of the true class. It trains the
    head and the features below it; confidence and probability are constants to it. Attacks are on the classifier.

    `compile`, `fit` and `evaluate` are those of the classifier: a loss of class scores, integer classes.

    Args:
        defended: A model with one `td.RectifiedRejection`; `save` writes this one. Its threshold is set after training, by
            `td.calibrate`.
        attacks: An attack, or a list.
        weight: Of the head's loss beside the classifier's own.
        share: Probability that a sample is attacked.
        seed: Of the choice of samples and of random starts.

    Example:

    >>> defended = td.RectifiedRejection(width=16).attach(model)
    >>> trainer = RectifiedTraining(defended, td.attacks.PGD(0.1, steps=2, random_start=True))
    >>> trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = trainer.fit(x, y, verbose=0)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True

    Reference: Pang et al., 2022, Two coupled rejection metrics can tell adversarial examples apart.
    """

    def __init__(self, defended: Model, attacks: Any, *, weight: float = 1.0, share: float = 1.0, seed: int | None = 0):
        found = nodes_of(defended, Rectifier) if is_defended(defended) else []
        if len(found) != 1:
            raise ValueError(
                f"Expected a model with one `td.RectifiedRejection`. Received '{defended.name}', which has {len(found)}. Attach "
                "one: `td.RectifiedRejection().attach(model)`."
            )
        check_number("weight", weight, above=True)
        base = base_model(defended)
        with unnoted(defended):
            both = {"scores": base.outputs[0], "log_odds": found[0][1].output_tensors[0]}
            graph = keras.Model(defended.inputs[0], both, name=f"{defended.name}_rectified")
        bounds: Bounds = bounds_of(defended)
        super().__init__(graph, attacks, share=share, target=base, bounds=bounds, seed=seed)
        self.head_weight = float(weight)
        self._hidden.trained = defended

    def compile(self, optimizer="rmsprop", loss=None, **options):
        super().compile(optimizer, loss, **options)
        if self._compile_loss is not None:
            # What it is given are class scores alone.
            self._compile_loss.output_names = ["scores"]

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        scores, odds = y_pred["scores"], y_pred["log_odds"]
        loss = super().compute_loss(x=x, y=y, y_pred=scores, sample_weight=sample_weight, training=training)
        each = rectified_loss(y, scores, odds)
        if sample_weight is not None:
            each *= tf.reshape(tf.cast(sample_weight, each.dtype), [-1])
        return loss + self.head_weight * _mean(each)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(x, y, y_pred["scores"], sample_weight)


def rectified_loss(y: Tensor, scores: Tensor, odds: Tensor) -> Tensor:
    """Binary cross-entropy of the rectified confidence against the probability of the true class; least where they are equal."""
    scores = tf.stop_gradient(tf.cast(scores, tf.float32))
    true = tf.gather(tf.nn.softmax(scores), tf.reshape(tf.cast(y, tf.int32), [-1]), batch_dims=1)
    rectified, rest = log_rectified(odds, scores)
    return -(true * rectified + (1.0 - true) * rest)


def _mean(values):
    """Over a batch; Keras adds the losses of replicas up."""
    return tf.reduce_mean(values) / tf.distribute.get_strategy().num_replicas_in_sync


def _check_logits(model):
    """The uniform part of the loss is one of logits."""
    if is_defended(model):
        return
    with unnoted(model):
        exposed = expose(model)
    if exposed.logits is not model.outputs[0]:
        raise ValueError(
            f"Expected a classifier that gives logits. Model '{model.name}' ends in a softmax or sigmoid: leave it out, and "
            "compile with `from_logits=True`."
        )
