"""Training against an attacker who sees the model as it is at that step."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdefense._files import write_file
from tfdefense._validation import Bounds, Model, Tensor
from tfdefense.attacks import Attack, Transfer, WorstCase
from tfdefense.attacks.arguments import check_values
from tfdefense.graph import as_functional, unnoted
from tfdefense.view import View


class AdversarialTraining(keras.Model):
    """A model whose `fit` attacks a part of each batch first. It shares its weights with the one it is made from.

    FGSM, BIM, ILCM, PGD (from the sample, or from a random point of the ball) and the dynamic adversary run inside the
    compiled training step; any other attack runs beside it, which is slower and takes no part in a distribution strategy.
    Attacks see the model with `training=False` and need classes as integers. There each takes all of its steps once and its last
    point counts, whatever its `early_stop`, `tolerance` and `restarts` say. Under a strategy of `tf.distribute`, in whose scope
    this is made, each replica attacks its own samples; whole batches that divide by the replicas give the weights of one device.

    Args:
        model: A classifier or a defended model; `save` writes this one, in its own form.
        attacks: An attack, or a list: each perturbed sample gets one of them. Inside `td.attacks.Transfer` an attack sees
            another model, by default the undefended one.
        share: Probability that a sample is perturbed.
        target: The model that is attacked, where it is another than the one trained, such as one with both heads.
        bounds: Lowest and highest pixel value; a defended model knows its own, otherwise (0, 1).
            `(-np.inf, np.inf)` where any number is valid.
        seed: Of the choice of samples and of random starts.
        detector: A `td.AdversaryDetector` attached to this very model, whose trained branch regularises it: what the branch takes
            for adversarial is a further loss of each batch, attacked or not, and its gradient goes back through the branch into
            the layers below. The branch itself stays as it is, so that it detects less and less.
        detector_weight: Of that loss beside the model's own.

    Example:

    >>> trainer = td.AdversarialTraining(model, td.attacks.PGD(0.1, steps=5, random_start=True), share=0.5)
    >>> trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> history = trainer.fit(x, y, verbose=0)

    Reference: Madry et al., 2018, Towards deep learning models resistant to adversarial attacks; for `detector` the outlook of
    Metzen et al., 2017, On detecting adversarial perturbations.
    """

    def __init__(
        self,
        model: Model,
        attacks: Any,
        *,
        share: float = 1.0,
        target: Model | None = None,
        bounds: Bounds = None,
        seed: int | None = 0,
        detector: Model | None = None,
        detector_weight: float = 1.0,
    ):
        trained = as_functional(model)
        super().__init__(trained.inputs[0], trained.output, name=f"{trained.name}_attacked")
        attacks = list(attacks) if isinstance(attacks, list | tuple) else [attacks]
        wrong = next((attack for attack in attacks if not isinstance(attack, Attack | Transfer)), None)
        if wrong is not None or not (attacks or self.may_lack_attacks):
            several = " In training a list does: each sample gets one of its attacks." if isinstance(wrong, WorstCase) else ""
            raise ValueError(f"Expected attacks, such as `td.attacks.FGSM(0.1)`. Received: {wrong!r}.{several}")
        if not 0 < share <= 1:
            raise ValueError(f"`share` must be above 0 and at most 1. Received: {share!r}.")
        # Its "auto" would try XLA on a GPU, which knows neither batches split by chance nor attacks beside the graph.
        self.supports_jit = False
        # Not as attributes: Keras would take a model for a layer of this one, and save its weights twice.
        self._hidden = types.SimpleNamespace(trained=trained, target=target or model)
        if not 0 <= detector_weight < np.inf:
            raise ValueError(f"`detector_weight` must be a finite number of at least 0. Received: {detector_weight!r}.")
        self._hidden.log_odds, self.detector_weight = detector and _log_odds(detector, trained), detector_weight
        self.attacks, self.share, self.attacked_bounds = attacks, share, bounds
        # Also None gives a number, drawn once: the steps of one training must follow from the same one.
        self.seed = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
        if tf.distribute.get_strategy().num_replicas_in_sync > 1:
            synchronize(self)

    may_lack_attacks = False

    @property
    def trained(self) -> Model:
        """The model that this one was made from, with the weights as they are now."""
        return self._hidden.trained

    def fit(self, x=None, *args, **options):
        # An attack keeps to the bounds: of samples beyond them it would make others altogether. A pipeline would have to be run.
        if isinstance(x, (np.ndarray, list, tf.Tensor)):
            check_values(View.of(self._hidden.target, self.attacked_bounds), x)
        # Keras traces the first step a second time where the first trace made the optimizer's variables.
        if getattr(self, "optimizer", None) is not None:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().fit(x, *args, **options)

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        x, perturbed = self.perturb(x, y)
        return super().train_step((x, self.labels(y, perturbed), weight))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training)
        if self._hidden.log_odds is None or not training:
            return loss
        # As the detector sees it in use; Keras adds the losses of replicas up.
        suspected = tf.reduce_mean(tf.math.softplus(self._hidden.log_odds(x, training=False)))
        return loss + self.detector_weight * suspected / tf.distribute.get_strategy().num_replicas_in_sync

    def labels(self, y: Tensor, perturbed: Tensor) -> Tensor:
        """What the perturbed batch is trained towards: the true classes. A detector asks for `perturbed` instead."""
        return y

    def changes(self) -> list[Any]:
        """All that may happen to a sample, each with a method `online`; the attacks come first."""
        return self.attacks

    def choose(self, y: Tensor, drawn: Tensor) -> Tensor:
        """Which of the changes each sample gets, or their number for none, from the first four of its uniform numbers."""
        count = len(self.attacks)
        return tf.where(drawn[0] < self.share, pick(drawn[1], count), count)

    def perturb(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The batch with a part of it attacked, and which samples an attack has moved."""
        if not getattr(y, "dtype", tf.float32).is_integer or len(y.shape) > 2 or (len(y.shape) == 2 and y.shape[-1] != 1):
            raise ValueError(
                f"Expected integer classes, one a sample. Received {y!r}. "
                "For one-hot labels: `y.argmax(-1)`; for whole numbers as floats: `y.astype('int32')`."
            )
        view = View.of(self._hidden.target, self.attacked_bounds)
        view.expect(x)
        x, y = tf.cast(x, tf.float32), tf.cast(tf.reshape(y, [-1]), tf.int32)
        drawn = self.draw(tf.shape(x)[0])
        changes = self.changes()
        which = self.choose(y, drawn)
        seeds = tf.cast(drawn[4] * 2.0**31, tf.int32)
        rows = tf.dynamic_partition(tf.range(tf.shape(x)[0]), which, len(changes) + 1)
        parts = [
            change.online(view)(tf.gather(x, own), tf.gather(y, own), tf.gather(seeds, own))
            for change, own in zip(changes, rows, strict=False)
        ]
        mixed = tf.dynamic_stitch(rows, [*parts, tf.gather(x, rows[-1])])
        mixed = tf.stop_gradient(tf.ensure_shape(mixed, x.shape))
        moved = tf.reduce_any(tf.reshape(mixed != x, [tf.shape(x)[0], -1]), axis=-1)
        return mixed, (which < len(self.attacks)) & moved

    def draw(self, samples: Tensor) -> Tensor:
        """Five uniform numbers a sample: they follow from the seed, the step and the sample's place in the global batch alone.

        So it matters neither how many replicas share the batch, nor whether training was interrupted before.
        """
        replica = tf.distribute.get_replica_context()
        count, place = replica.num_replicas_in_sync, replica.replica_id_in_sync_group
        optimizer = getattr(self, "optimizer", None)
        step = 0 if optimizer is None else keras.ops.cast(optimizer.iterations, "int32")
        drawn = tf.random.stateless_uniform((5 * count * samples,), tf.stack([self.seed, step]))
        return tf.reshape(drawn, [5, -1])[:, place * samples : (place + 1) * samples]

    def save(self, filepath, overwrite=True, **options):
        """Saves the model that is trained, without the attack. The file appears whole or not at all."""
        if not overwrite and Path(filepath).exists():
            raise FileExistsError(f"{filepath} is there already. Choose another path, or leave `overwrite=False` out.")
        write_file(filepath, lambda new: self.trained.save(new, **options))


def _log_odds(detector, model):
    """A model that gives what the branch on a model says of its input."""
    from tfdefense.trainers.watched import watched

    branch, maps = watched(detector)
    below = keras.Model(detector.inputs[0], maps)
    own = {id(variable) for variable in model.variables}
    if not below.variables or any(id(variable) not in own for variable in below.variables):
        raise ValueError(
            f"`detector` must be attached to the model that is trained. Received '{detector.name}', whose branch watches other "
            "weights or the image itself. Train its classifier: `td.AdversarialTraining(td.base_model(detector), attack, "
            "detector=detector)`."
        )
    with unnoted(detector):
        return keras.Model(detector.inputs[0], branch(maps), name="log_odds")


def synchronize(model, on=True):
    """Lets batch normalisations see the whole batch when several replicas share it, as one device does."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = on


def pick(drawn, count):
    """One of so many, from uniform numbers."""
    return tf.minimum(tf.cast(drawn * count, tf.int32), count - 1)
