"""What rejection may cost under attack: samples that an attacker has rejected, and what a claim of robustness would imply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import check_number, check_numbers, check_same_length


def forced_rejection(forced: Any, right: ArrayLike, sizes: ArrayLike) -> np.ndarray:
    """The share of samples, right and accepted when clean, that an attacker gets rejected within each size.

    1 minus this is the robust rejection rate: the share that withstands.

    Args:
        forced: What `td.attacks.ForcedRejection` of a search for the smallest change gives, or the distance of the nearest rejected
            point of each sample, infinite where none is known.
        right: Whether each sample is right when clean, booleans.
        sizes: Sizes of the perturbation.

    Example:

    >>> forced_rejection([0.1, 0.5, np.inf, 0.0], [True, True, True, False], sizes=[0.2, 1.0]).round(2).tolist()
    [0.33, 0.67]
    """
    distance, right = _distances(forced, "forced"), np.asarray(right, bool)
    check_same_length(forced=distance, right=right)
    if not right.any():
        raise ValueError("Expected samples that are right when clean, which alone can be lost to a rejection. Received none.")
    sizes = check_numbers(sizes, "sizes")
    return _within(distance[right], sizes).mean(axis=1)


def stratified_error(evaded: Any, forced: Any, epsilon: float, alphas: ArrayLike) -> np.ndarray:
    """The stratified error: the share of samples that some perturbation within epsilon gets accepted and wrong, or one within
    alpha times epsilon gets rejected.

    A model may reject what was perturbed much, and should not reject what was perturbed little: alpha says where little ends. At 0
    clean rejections alone count; at 1 a rejection is an error like any other.

    Args:
        evaded: Result of an attack for the smallest change that evades, such as `td.attacks.MinimumNorm`, or its distances.
        forced: Of one for the smallest change that is rejected: `td.attacks.ForcedRejection`, or its distances.
        epsilon: Size of the perturbation.
        alphas: Shares of it, from 0 to 1.

    Example:

    >>> evaded, forced = [3.0, 0.5, np.inf], [0.2, np.inf, 0.0]
    >>> stratified_error(evaded, forced, epsilon=1.0, alphas=[0, 0.1, 1]).round(2).tolist()
    [0.67, 0.67, 1.0]

    Reference: Chen et al., 2023, Stratified adversarial robustness with rejection.
    """
    evaded, forced = _distances(evaded, "evaded"), _distances(forced, "forced")
    check_same_length(evaded=evaded, forced=forced)
    check_number("epsilon", epsilon)
    alphas = check_numbers(alphas, "alphas")
    if not ((alphas >= 0) & (alphas <= 1)).all():
        raise ValueError(f"`alphas` must be shares of epsilon, from 0 to 1. Received: {alphas.tolist()}.")
    return (_within(evaded, np.array([epsilon])) | _within(forced, alphas * epsilon)).mean(axis=1)


# Robust accuracies of classifiers without rejection, by AutoAttack, as RobustBench's files have them: set, norm, size in pixels,
# from 0 to 1. Among the highest known here; not every file was compared, so a higher one may be published.
RECORDS = (
    ("cifar10", "linf", 8 / 255, 0.7528, "Amini et al. 2024, in RobustBench"),
    ("cifar10", "l2", 0.5, 0.8486, "Wang et al. 2023, in RobustBench"),
)


@dataclass(frozen=True)
class Plausibility:
    """What a claim of robustness with rejection would imply of a classifier without.

    Attributes:
        size: Half the size of the claim.
        implied: The robust accuracy there that follows from the claim.
        record: The best that is published there, or at a smaller size; None where none is known.
        source: Whose that is.
    """

    norm: str
    size: float
    implied: float
    record: float | None
    source: str

    @property
    def plausible(self) -> bool:
        """Whether the claim implies no more than is published."""
        return self.record is None or self.implied <= self.record

    @property
    def line(self) -> str:
        """The claim and what is published, in one sentence."""
        size = f"{self.norm} {self.size:.3g}"
        claim = f"This claim would imply {100 * self.implied:.0f} % robust accuracy without rejection at {size}, half its size"
        if self.record is None:
            return f"{claim}; no record is known here."
        return f"{claim}; the record is {100 * self.record:.0f} % ({self.source})."


def plausibility(data: str, norm: str, epsilon: float, share: float, span: float = 1.0) -> Plausibility:
    """Whether a claim of robustness with rejection is believable: it implies a robust classifier at half the size.

    Whoever looks for an accepted point within epsilon / 2 of a sample turns a detector that is robust at epsilon into a classifier
    that is robust at epsilon / 2, though in time without bound. Many a claim for a detector would so beat every classifier.

    Args:
        data: Name of the data set.
        norm: "linf", "l2" or "l1".
        epsilon: Size of the claim.
        share: Of samples that are right and accepted when clean, and right or rejected under attack within epsilon.
        span: How wide the range of the pixels is.

    Example:

    >>> claim = plausibility("cifar10", "linf", 16 / 255, 0.8)
    >>> claim.plausible, claim.record
    (False, 0.7528)

    Reference: Tramèr, 2022, Detecting adversarial examples is (nearly) as hard as classifying them.
    """
    half = epsilon / 2
    # At a smaller size a record is no lower: it bounds what is known here.
    known = [one for one in RECORDS if one[:2] == (data, norm) and one[2] * span <= half * (1 + 1e-6)]
    _, _, _, record, source = max(known, key=lambda one: one[2]) if known else (data, norm, 0.0, None, "")
    return Plausibility(norm, half, float(share), record, source)


def _distances(found, name):
    """The distance of each sample's nearest success, infinite where there is none."""
    if hasattr(found, "success"):
        return np.where(found.success, found.distance, np.inf)
    distance = np.asarray(found, "float64")
    if distance.ndim != 1 or not len(distance) or np.isnan(distance).any() or (distance < 0).any():
        raise ValueError(
            f"`{name}` must be the result of an attack, or a distance of 0 or more for each sample, infinite for none."
        )
    return distance


def _within(distance, sizes):
    # As in `td.attacks.WorstCase`: float32 gives 0.10000002 for 0.1. A rejection without any change has size 0.
    return distance <= np.where(sizes > 0, sizes * (1 + 1e-5) + 1e-7, 0)[:, None]
