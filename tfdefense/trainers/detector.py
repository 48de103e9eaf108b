"""Training a detector branch on a classifier that stays as it is: on fixed clean / adversarial pairs, or on the fly."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfdefense._renamed import renamed_attributes, renamed_keywords
from tfdefense._validation import AnyModel, Bounds, Model, PathLike, Tensor, range_of
from tfdefense.attacks.arguments import check
from tfdefense.contract import base_model, bounds_of, defend
from tfdefense.graph import unnoted
from tfdefense.metrics.benign import benign_perturbation
from tfdefense.trainers.adversarial import AdversarialTraining, pick
from tfdefense.trainers.watched import watched


class DetectorTraining(AdversarialTraining):
    """Trains the branch of a `td.AdversaryDetector`; the classifier is frozen, statistics of its normalisations too.

    With attacks, `fit` takes samples and their classes and attacks a part of each batch: the dynamic adversary steps on
    the branch as it is at that moment (dynamic adversary training). Attacks see the defended model with a threshold of
    one half; oblivious ones go inside `td.attacks.Transfer`. Without attacks, `fit` takes samples and
    whether they are adversarial, 0 or 1, such as `td.adversarial_pairs` makes (static training). Validation and `evaluate`
    always take the latter: `validation_data=td.adversarial_pairs(model, attack, x_held_out, y_held_out)`.

    Against the dynamic adversary at a small size, such as 1/255, training may stay at the level of a coin for thousands of
    steps. Begin at a larger one: several trainers of one defended model, one after the other, each with a smaller `epsilon`,
    and an optimizer that follows faster than the paper's, `keras.optimizers.Adam(1e-3)`.

    Callbacks of `td.callbacks` act on the defended model: `CalibrateRejection` sets its threshold, `RobustAccuracy` tells after
    every epoch how it fares against a dynamic adversary on held-out samples.

    Args:
        defended: A model with one `td.AdversaryDetector`; `save` writes this one. Its threshold is set after training, by
            `td.callbacks.CalibrateRejection` or by `td.calibrate`.
        attacks: An attack or a list, of which each perturbed sample gets one.
        share: Probability that a sample is attacked.
        benign: Perturbations that are to count as clean, as pairs of kind and size for `td.metrics.benign_perturbation`; half
            of the clean samples get one. Without them a detector may reject any noise.
        seed: Of the choice of samples, sigma and random starts.

    Example:

    >>> defended = td.AdversaryDetector("conv", width=8).attach(model)
    >>> trainer = DetectorTraining(defended, td.attacks.DynamicAdversary(0.2), benign=[("sign", 0.2)])
    >>> trainer.compile()
    >>> sorted(trainer.fit(x_train, y_train, verbose=0).history)
    ['detectability', 'false_positives', 'loss']

    Reference: Metzen et al., 2017, On detecting adversarial perturbations, sections 3.2 and 3.3.
    """

    may_lack_attacks = True
    __getattr__ = renamed_attributes(harmless="benign")

    @renamed_keywords(harmless="benign")
    def __init__(
        self,
        defended: Model,
        attacks: Any = (),
        *,
        share: float = 0.5,
        benign: Sequence[tuple[str, float]] = (),
        seed: int | None = 0,
    ):
        branch, maps = watched(defended)
        frozen = _Frozen(keras.Model(defended.inputs[0], maps), name="frozen")
        image = keras.Input(defended.inputs[0].shape[1:], dtype=defended.inputs[0].dtype, name="image")
        # At a threshold of one half: that of the defended model is set when the branch is trained.
        scores = base_model(defended).outputs[0]
        with unnoted(defended):
            attacked = defend(defended.inputs[0], scores, branch(maps), bounds=bounds_of(defended), name="attacked")
            head = keras.Model(image, branch(frozen(image)), name=f"{defended.name}_detector")
        super().__init__(head, attacks, share=share, target=attacked, seed=seed)
        self.benign = [_Benign(kind, size) for kind, size in benign]
        self._hidden.trained = defended

    def compile(self, optimizer=None, loss=None, metrics=None, **options):
        """As `keras.Model.compile`, with the paper's optimizer, the cross-entropy of the log-odds, and two metrics as defaults."""
        optimizer = optimizer or keras.optimizers.Adam(1e-4, beta_1=0.99, beta_2=0.999)
        # One value a sample: of a mean over them Keras would not know how many replicas share the batch.
        loss = loss or keras.losses.BinaryCrossentropy(from_logits=True, axis=())
        if metrics is None:
            metrics = [keras.metrics.BinaryAccuracy("detectability", threshold=0.0), FalsePositiveRate()]
        super().compile(optimizer, loss, metrics=metrics, **options)

    def fit(self, x=None, y=None, *args, validation_data=None, validation_split=0.0, **options):
        if self.attacks and options.get("class_weight") is not None:
            raise ValueError(
                "`class_weight` would weight the classes of the samples, not clean and attacked. Expected none; to have "
                "fewer clean samples rejected, attack a smaller `share`, or raise the threshold by `td.calibrate`."
            )
        if not self.attacks:
            _check_kinds(y, "For classes, say what attacks them: `DetectorTraining(defended, td.attacks.DynamicAdversary(0.1))`.")
        elif validation_split:
            raise ValueError(f"Expected validation samples that are attacked already. Received {validation_split=}. {_VALIDATION}")
        if isinstance(validation_data, (tuple, list)):
            _check_kinds(validation_data[1], _VALIDATION)
        return super().fit(x, y, *args, validation_data=validation_data, validation_split=validation_split, **options)

    def evaluate(self, x=None, y=None, *args, **options):
        _check_kinds(y, "Pass what is attacked already: `trainer.evaluate(*td.adversarial_pairs(model, attack, x, y))`.")
        return super().evaluate(x, y, *args, **options)

    def perturb(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        # Without attacks also the floats or booleans that a binary label often is.
        return super().perturb(x, y if self.attacks else tf.cast(y, tf.int32))

    def changes(self) -> list[Any]:
        return [*self.attacks, *self.benign]

    def choose(self, y: Tensor, drawn: Tensor) -> Tensor:
        attacks, kinds = len(self.attacks), len(self.benign)
        attacked = drawn[0] < self.share if attacks else y > 0
        attack = pick(drawn[1], attacks) if attacks else kinds
        clean = tf.where(drawn[2] < 0.5, attacks + pick(drawn[3], kinds), attacks + kinds) if kinds else attacks
        return tf.where(attacked, attack, clean)

    def labels(self, y: Tensor, perturbed: Tensor) -> Tensor:
        return tf.cast(perturbed, tf.int32) if self.attacks else y


_VALIDATION = "Pass `validation_data=td.adversarial_pairs(model, attack, x, y)`."


def _check_kinds(labels, remedy):
    """Only of arrays: a pipeline would have to be run for it."""
    labels = np.asarray(labels) if isinstance(labels, (np.ndarray, list, tuple, tf.Tensor)) else np.zeros(1)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Expected 0 (clean) or 1 (adversarial) for each sample. Received labels from {labels.min()} to {labels.max()}. "
            f"{remedy}"
        )


@keras.saving.register_keras_serializable(package="tfdefense")
class FalsePositiveRate(keras.metrics.Mean):
    """The share of clean samples (label 0) with log-odds above 0."""

    def __init__(self, name="false_positives", **options):
        super().__init__(name=name, **options)

    def update_state(self, y_true, y_pred, sample_weight=None):
        clean = 1.0 - keras.ops.cast(keras.ops.reshape(y_true, [-1]), "float32")
        if sample_weight is not None:
            clean = clean * keras.ops.cast(keras.ops.reshape(sample_weight, [-1]), "float32")
        super().update_state(keras.ops.cast(keras.ops.reshape(y_pred, [-1]) > 0, "float32"), clean)


class _Frozen(keras.layers.Layer):
    """A model as a layer without weights: always in inference mode, and nothing of it is trained, saved or restored."""

    def __init__(self, model, **options):
        super().__init__(**options)
        # In a closure, where Keras does not look for layers.
        self.run = lambda x: model(x, training=False)

    def call(self, x):
        return keras.ops.stop_gradient(self.run(x))


@dataclasses.dataclass(frozen=True)
class _Benign:
    """A benign perturbation beside the graph, with the form of an attack."""

    kind: str
    size: float

    def online(self, view):
        def change(x, seeds):
            one = [benign_perturbation(x[i : i + 1], self.size, self.kind, view.bounds, seed) for i, seed in enumerate(seeds)]
            return np.concatenate(one) if one else x

        # Named wrongly, it is told here and not from inside the graph.
        low, _ = range_of(view.bounds, "A benign perturbation")
        change(np.full((1, *view.input_shape[1:]), low, "float32"), [0])
        return lambda x, y, seeds: tf.ensure_shape(tf.numpy_function(change, [x, seeds], tf.float32), x.shape)


def adversarial_pairs(
    model: AnyModel,
    attack: Any,
    x: ArrayLike,
    y: ArrayLike,
    *,
    bounds: Bounds = None,
    batch_size: int = 128,
    cache: PathLike | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Clean / adversarial pairs, as static detector training takes them.

    Args:
        model: What is attacked, as for the attack itself: a plain classifier for an oblivious attacker.
        attack: Any attack.
        x, y: Clean samples and their classes.
        bounds, batch_size: As for the attack.
        cache: A directory for finished batches: those of the same samples, model and attack are read from there, and a call
            that was stopped goes on.
        progress: Whether to show a bar with an estimate of the time left.

    Returns:
        The clean samples followed by the adversarial ones, and for each 0 (clean) or 1 (adversarial). Those that are misclassified
        already are attacked as well. One that the attack left as it was, for want of a gradient or because the smallest change
        is none, counts as clean. Where there are many of those the two kinds are no longer balanced, and a detector that is
        fitted on them calls fewer adversarial: pass samples that the classifier has right.

    Example:

    >>> samples, is_adversarial = adversarial_pairs(model, td.attacks.FGSM(0.2), x, y)
    >>> samples.shape, is_adversarial.mean().item()
    ((16, 8, 8, 1), 0.5)
    """
    if cache is not None and not isinstance(model, keras.Model):
        raise ValueError(
            f"`cache` needs a Keras model, whose weights can be compared. Received {type(model).__name__}. Leave it out."
        )
    options = {"bounds": bounds, "batch_size": batch_size, "cache": cache, "progress": progress}
    x_adv = attack(model, x, y, regardless=True, **options).x_adv
    clean = check(model, x, y, bounds)[1]
    moved = (x_adv != clean).reshape(len(clean), -1).any(1)
    return np.concatenate([clean, x_adv]), np.concatenate([np.zeros(len(clean), "int32"), moved.astype("int32")])
