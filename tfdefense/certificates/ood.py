"""What a discriminator proves of samples that are none of the classes: they stay doubted in a whole ball."""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np

from tfdefense._progress import batches
from tfdefense._validation import Model, Samples, check_number
from tfdefense.calibration.running import check_images, run_batches
from tfdefense.certificates.intervals import interval_bounds
from tfdefense.contract import check_sound, nodes_of, reject_node
from tfdefense.layers import Confidence, Join, Threshold
from tfdefense.layers.robust import JointProbability
from tfdefense.metrics import auc


@dataclass(frozen=True)
class CertifiedOOD:
    """What holds for every perturbation of up to epsilon in linf of each sample.

    Attributes:
        confidence: The joint confidence is at most this.
        score: The detector score, the log of 1 minus the joint confidence, is at least this.
        suspicion: The suspicion of the model is at least this; above 0 the sample is rejected. None where the model rejects only
            what other detectors reject, too (`td.AllOf`), of which nothing is proved, and with thresholds for each class.
        epsilon: The size.
    """

    confidence: np.ndarray
    score: np.ndarray
    suspicion: np.ndarray | None
    epsilon: float

    @property
    def rejected(self) -> float | None:
        """The share of samples that is rejected whatever the perturbation."""
        return None if self.suspicion is None else float((self.suspicion > 0).mean())


def certify_ood(defended: Model, x: Samples, epsilon: float = 0.01, *, batch_size: int = 256) -> CertifiedOOD:
    """Bounds from above how confident a model with a `td.JointDiscriminator` can become within epsilon of samples, in linf.

    Args:
        defended: A model with one `td.JointDiscriminator`: alone, or joined with others.
        x: Samples that are none of the classes.
        epsilon: Size of the ball in linf, cut off at the bounds of the model, outside of which everything is rejected.
        batch_size: Samples at once.

    Returns:
        A `CertifiedOOD`: `found.rejected`, `found.confidence`.

    Example:

    >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    >>> defended = td.JointDiscriminator(keras.Sequential(layers, name="discriminator")).attach(model)
    >>> td.certify_ood(defended, 1 - x, 0.01).confidence.shape
    (8,)

    Reference: Meinke et al., 2022, Provably adversarially robust detection of out-of-distribution data (almost) for free.
    """
    joint, discriminator = _joint(defended)
    check_number("epsilon", epsilon)
    x, (low, high), highest = check_images(defended, x).astype("float32"), reject_node(defended)[0].bounds, []
    check_sound(defended, (Threshold,))
    for part in batches(len(x), batch_size):
        ends = (np.clip(x[part] + step, low, high).astype("float32") for step in (-epsilon, epsilon))
        highest.append(keras.ops.convert_to_numpy(interval_bounds(discriminator, *ends)[1])[:, 0].astype("float64"))
    odds, classes = np.concatenate(highest), joint.output_tensors[0].shape[-1]
    # 1 - p - (1 - p) / classes, for p as the odds say; its logarithm is exact where p is nearly 1.
    score = np.log1p(-1 / classes) - np.logaddexp(0, odds)
    thresholds = [
        layer for layer, node in nodes_of(defended, Threshold) if node.arguments.keras_tensors[0] is _score(defended, joint)
    ]
    if any(layer.how == "all" for layer, _ in nodes_of(defended, Join)) or type(thresholds[0]) is not Threshold:
        return CertifiedOOD(-np.expm1(score), score, None, float(epsilon))
    suspicion = score - float(keras.ops.convert_to_numpy(thresholds[0].value))
    return CertifiedOOD(-np.expm1(score), score, suspicion, float(epsilon))


def guaranteed_auroc(defended: Model, x: Samples, x_ood: Samples, epsilon: float = 0.01, *, batch_size: int | None = None) -> float:
    """The AUROC of a `td.JointDiscriminator` between clean samples and out-of-distribution ones that an attacker may move.

    However he moves each of these within epsilon in linf, the AUROC is at least this.

    Args:
        defended: As for `certify_ood`.
        x: Clean samples.
        x_ood: Samples that are none of the classes.
        epsilon: Size of the ball.
        batch_size: Samples at once.

    Example:

    >>> layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(1)]
    >>> defended = td.JointDiscriminator(keras.Sequential(layers, name="discriminator")).attach(model)
    >>> 0 <= td.certificates.guaranteed_auroc(defended, x, 1 - x, 0.01) <= 1
    True
    """
    joint, _ = _joint(defended)
    scorer = keras.Model(defended.inputs[0], _score(defended, joint))
    (clean,) = run_batches(scorer, check_images(defended, x), batch_size)
    return float(auc(clean, certify_ood(defended, x_ood, epsilon, **({"batch_size": batch_size} if batch_size else {})).score))


def _joint(defended):
    """The call of the joint probability in a model, and its discriminator."""
    reject_node(defended)
    found = nodes_of(defended, JointProbability)
    if len(found) != 1:
        raise ValueError(
            f"Expected a model with one `td.JointDiscriminator`. Received '{defended.name}', which has {len(found)}. Attach one: "
            "`td.JointDiscriminator(discriminator).attach(model)`."
        )
    node = found[0][1]
    return node, node.arguments.keras_tensors[0]._keras_history.operation


def _score(defended, joint):
    """The detector score behind the joint probability."""
    return next(
        node.output_tensors[0]
        for _, node in nodes_of(defended, Confidence)
        if node.arguments.keras_tensors[0] is joint.output_tensors[0]
    )
