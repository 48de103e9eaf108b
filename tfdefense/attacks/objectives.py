"""What an attack makes small. Each gives one number a sample from scores, suspicion and classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import Tensor
from tfdefense.view import View


def split(scores, index):
    """The score at `index`, and the scores with that one taken out of any maximum or sum of exponentials."""
    # Not by products: a class that is ruled out has a score of -inf.
    chosen = tf.one_hot(index, scores.shape[-1], True, False, dtype=tf.bool)
    return tf.reduce_sum(tf.where(chosen, scores, 0), -1), tf.where(chosen, -1e9, scores)


def margin(scores, y, target=None):
    """The lead of the true class; or, targeted, the target's shortfall. Below 0 means (targeted) misclassified."""
    if target is None:
        own, others = split(scores, y)
        return own - tf.reduce_max(others, -1)
    own, others = split(scores, target)
    return tf.reduce_max(others, -1) - own


class Objective:
    """What an attack makes small. A subclass writes one method, `value(scores, suspicion, y, target, scale)`.

    `target` is None where the attack has no target. `units` may look at the outputs for clean samples and give two numbers,
    which come back as `scale`.

    Example:

    >>> class RejectAlone(Objective):
    ...     def value(self, scores, suspicion, y, target, scale):
    ...         return suspicion
    >>> PGD(0.1, steps=2, objective=RejectAlone())(defended, x, y).x_adv.shape == x.shape
    True
    """

    def units(self, scores: Tensor, suspicion: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Two numbers from tensors, inside or outside a compiled function."""
        return (1.0, 1.0)

    def measure(self, view: View, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """The units as measured on the first of the samples under attack."""
        if type(self).units is Objective.units:
            return (1.0, 1.0)
        scores, suspicion, _ = view.run(x[:512])
        lead, doubt = self.units(scores, suspicion, tf.constant(y[:512]))
        return float(lead), float(doubt)

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy(Objective):
    """The cross-entropy with its sign turned: log-probability of the true class, or minus that of the target.

    It is computed from the scores as they are, whatever loss the network was trained with.

    Example:

    >>> result = PGD(0.2, steps=3, objective=CrossEntropy())(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        log_probability = tf.nn.log_softmax(scores)
        return split(log_probability, y)[0] if target is None else -split(log_probability, target)[0]


@dataclass(frozen=True)
class Margin(Objective):
    """The lead of the true class over the best other one; it goes on where a cross-entropy is saturated.

    Example:

    >>> result = PGD(0.2, steps=3, objective=Margin())(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        return margin(scores, y, target)


@dataclass(frozen=True)
class WrongConfidence(Objective):
    """Minus the largest log-probability of a wrong class, or that of the target: what confidence a wrong answer can reach.

    `td.ConfidenceCalibratedTraining` trains with it. It is the direct attack on a threshold on the confidence: the search goes on
    beyond the boundary, to where the model is sure of the wrong class. The rejection itself takes no part.

    Example:

    >>> result = PGD(0.2, steps=3, objective=WrongConfidence())(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Stutz et al., 2020, Confidence-calibrated adversarial training: generalizing to unseen attacks.
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        log_probability = tf.nn.log_softmax(scores)
        if target is not None:
            return -split(log_probability, target)[0]
        return -tf.reduce_max(split(log_probability, y)[1], -1)


@dataclass(frozen=True)
class LogSumExp(Objective):
    """The true class against all wrong ones together, which has a slope towards every one of them.

    On a model that rejects, rejection takes part as one more class, whose score is the threshold, as in `MaximumConfidence`;
    true class and rejection are joined in the same way. So where a sample is rejected the slope leads to the wrong classes
    and never back to the true one, which is a way out of rejection too. On a dustbin this is the log-odds of all wrong classes.

    Example:

    >>> result = PGD(0.2, steps=3, objective=LogSumExp())(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        own, others = split(scores, y if target is None else target)
        others = tf.reduce_logsumexp(others, -1)
        value, wanted = (own - others, others) if target is None else (others - own, own)
        if suspicion is None:
            return value
        rejection = suspicion + tf.reduce_max(scores, -1) - wanted
        # Two exponentials, not logaddexp: that has no gradient where the suspicion is +inf.
        return tf.reduce_logsumexp(tf.stack([value, rejection], -1), -1)


@dataclass(frozen=True)
class Evade(Objective):
    """max(margin, suspicion): below 0 exactly where a sample is misclassified and not rejected.

    Args:
        raw: Leave both in their own units. Otherwise each is divided by its spread on the clean samples: a maximum of two
            badly scaled terms is a weak attack.

    On a model that rejects nothing this is `Margin`. From the clean sample it may stop where the two are equal, short of the
    boundary; `MaximumConfidence` and `LogSumExp` do not, so a claim needs them too, or all starts.

    Example:

    >>> result = PGD(0.2, steps=3, objective=Evade())(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True
    """

    raw: bool = False

    def units(self, scores: Tensor, suspicion: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        if self.raw or suspicion is None:
            return (1.0, 1.0)
        return _spread(margin(scores, y)), _spread(suspicion)

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        value = margin(scores, y, target)
        return value if suspicion is None else tf.maximum(value / scale[0], suspicion / scale[1])


@dataclass(frozen=True)
class Penalty(Objective):
    """Margin above 0 plus suspicion above 0: `CarliniWagner(objective=Penalty())` on a `td.DensityDefense` is C&W-wb.

    There the suspicion is -log density - threshold, so with the threshold at eta the second term is the paper's
    max(-log KD - eta, 0). Its eta, the median of the training set: `td.calibrate(defended, x_train, max_rejected=0.5)`.
    A sample succeeds, as for every objective, where it is misclassified and not rejected at that threshold. The share that
    fails is at least the paper's share with f2 > 0: it also holds those that were never misclassified. Below 0 it goes on as
    max(margin, suspicion), for a `kappa` above 0.

    Args:
        weight: Of the second term. 1 adds logits and log densities as they are, which is the paper's.

    Example:

    >>> CarliniWagner(steps=5, objective=Penalty())(defended, x, y).norm
    'l2'

    Reference: Carlini and Wagner, 2017, Adversarial examples are not easily detected; Pang et al., 2018.
    """

    weight: float = 1.0

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        lead = margin(scores, y, target)
        if suspicion is None:
            return lead
        penalty = self.weight * suspicion
        return tf.nn.relu(lead) + tf.nn.relu(penalty) + tf.minimum(tf.maximum(lead, penalty), 0.0)


@dataclass(frozen=True)
class MaximumConfidence(Objective):
    """The paper's objective on Neural Rejection and its deep sibling: the best of true class and rejection, less the best other.

    Rejection takes part as one more class, whose score is the threshold: suspicion plus the best score. Sign and, but for
    one case, value are those of `Evade(raw=True)`. Where a sample is rejected while its true class is the best, `Evade`
    may pull it back to that class, out of rejection; this one goes for the best other class all the same.
    It fits where the suspicion is a threshold minus the best score. On a model that rejects nothing this is `Margin`.

    Example:

    >>> result = PGD(0.2, steps=3, objective=MaximumConfidence())(defended, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Sotgiu et al., 2020, Deep neural rejection against adversarial examples, eq. 1.
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        value = margin(scores, y, target)
        # threshold - best other = suspicion + best - best other, and best - best other is the margin or 0.
        return value if suspicion is None else tf.maximum(value, suspicion + tf.maximum(value, 0.0))


@dataclass(frozen=True)
class LogitRatio(Objective):
    """Difference-of-logits ratio (DLR): the margin divided by the distance from the best score to the third best.

    The scale of the scores makes no difference to it, so that a network that is very sure of itself does not saturate it.
    With a target the margin is that of the target, and the divisor reaches to the middle of the third and fourth best. With
    fewer classes it reaches to the lowest there are, and of two scores the margin itself is left.

    On a model that rejects, rejection takes part as one more class, whose score is the threshold, as in `MaximumConfidence`.
    Untargeted the better of true class and rejection stands for both: two of the three best, they would make it 1 everywhere.
    It depends on rejection through a maximum alone, so `LogSumExp` finds more on a dustbin.

    Example:

    >>> result = PGD(0.2, steps=3, objective=LogitRatio())(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.2 + 1e-6).all())
    True

    Reference: Croce and Hein, 2020, Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
    attacks, section 4.2.
    """

    def value(self, scores: Tensor, suspicion: Tensor, y: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        if suspicion is not None:
            # A suspicion of +inf would leave neither a number nor a slope.
            rejection = tf.minimum(suspicion, 1e8)[:, None] + tf.reduce_max(scores, -1, keepdims=True)
            if target is None:
                own = tf.one_hot(y, scores.shape[-1], True, False, dtype=tf.bool)
                scores = tf.where(own, tf.maximum(scores, rejection), scores)
            else:
                scores = tf.concat([scores, rejection], -1)
        # A target that is ruled out lags by infinity.
        lead = tf.clip_by_value(margin(scores, y, target), -1e9, 1e9)
        best = tf.math.top_k(scores, min(3 if target is None else 4, scores.shape[-1]))[0]
        # Classes that are ruled out, with a score of -inf, are no classes here.
        last = tf.reduce_sum(tf.cast(tf.math.is_finite(best), tf.int32), -1) - 1
        low = tf.gather(best, tf.maximum(last, 0), batch_dims=1)
        if target is not None:
            low = (low + tf.gather(best, tf.maximum(last - 1, 0), batch_dims=1)) / 2
        return lead / tf.where(last > 1, tf.maximum(best[:, 0] - low, 1e-12), 1.0)


def _spread(values):
    values = tf.boolean_mask(values, tf.math.is_finite(values))
    sums = [tf.cast(tf.size(values), values.dtype), tf.reduce_sum(values), tf.reduce_sum(tf.abs(values))]
    count, total, size = tf.unstack(_summed(sums))
    spread = tf.sqrt(_summed(tf.reduce_sum(tf.square(values - total / count))) / count)
    # One sample, or all alike: its size is the only unit there is. Of no sample at all it is NaN.
    unit = tf.where(spread > 1e-6, spread, tf.maximum(size / count, 1e-6))
    return tf.where(tf.math.is_finite(unit), unit, 1.0)


def _summed(numbers):
    """Over the replicas that share a batch: the units of each one's samples alone would be others."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return tf.convert_to_tensor(numbers)
    return replica.all_reduce("SUM", tf.convert_to_tensor(numbers))
