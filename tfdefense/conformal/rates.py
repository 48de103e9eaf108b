"""Thresholds that keep their promise on fresh clean samples: split conformal prediction, for one detector or several.

**The promise.** With n clean samples to calibrate on, drawn independently from what will come, a fresh clean sample is rejected
with probability P. P depends on the n samples. `thresholds` keeps it at most a (`max_rejected`)

- on average over draws of the n samples, or
- with `confidence`: in at least that share of the draws.

**One detector.** The threshold is the r-th largest of the n scores, and what lies strictly above it is rejected. Then P follows
Beta(r, n + 1 - r), or is smaller where scores are tied. Its mean is r / (n + 1), so r = floor(a (n + 1)) keeps the mean: the rank
ceil((n + 1)(1 - a)) of split conformal prediction, counted from below. P <= a as often as Binomial(n, a) >= r; with `confidence`
r is the largest for which that probability suffices.

**Several detectors.** The same r, by statistically equivalent blocks. Cut samples off one after the other. Each time choose a
detector by nothing but what is cut off already, cut the sample that it scores highest among those left, and let that score be
its threshold. Given what is cut off, the k samples left are independent draws from what is left of the distribution. So the
next cut leaves a share of it that follows Beta(k, 1), independent of the cuts before. After r cuts the mass left is a product of
Beta(n, 1), Beta(n - 1, 1), ..., Beta(n + 1 - r, 1), which is Beta(n + 1 - r, r); the mass cut off follows Beta(r, n + 1 - r),
whatever the detectors are and however they depend on each other.

- Any: a fresh sample that a detector scores above its threshold lies in the mass cut off. So P is at most that.
- All: cut n + 1 - r samples from below instead. The mass left, which again follows Beta(r, n + 1 - r), is where all detectors are
  above their thresholds.
- Any of all, all of any: no order of cuts fits both. One half of the samples, drawn at random, gives every detector its score
  at one common count. Given that half, the least count at which a sample is rejected is one number a sample, of independent
  samples: the other half sets the count as for one detector. The same way is taken where the cuts of "all" leave a
  detector no finite threshold, as where others may take its place; that this choice looks at the scores is not in the proof.

The detector with the fewest samples behind it cuts next, so all have about the same rate. Ties: were they broken by lot, the proof
would hold to the letter; what lies strictly above a threshold is a part of what is cut off then. For the same reason any higher
threshold keeps the promise too.

**Scores that are not finite.** A detector that scores a sample +inf rejects it at any threshold. NaN and -inf are no scores: the
model rejects such a sample, whatever other detectors say. Both are known of each sample alone, before any threshold. So what
remains for the finite scores to decide is one more rule by which they are joined, and what is above holds for it. A sample that
is rejected at any threshold is the most suspicious one.

References: Tukey, 1947, and Fraser, 1951, on statistically equivalent blocks; Vovk, 2012, Conditional validity of inductive
conformal predictors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Keeps 0.07 * 100 = 7.000000000000001, 0.29 * 100 = 28.999999999999996 and their like from costing a sample.
_EPSILON = 1e-9


class NoRoom(ValueError):
    """More samples are rejected at any threshold than the promise allows."""


class TooFew(ValueError):
    """The promise takes more samples: `needed` of them, or so many that `needed` usually suffice."""

    needed: int


def check_promise(max_rejected: float, confidence: float | None = None) -> None:
    """Refuses a promise that cannot be made.

    Args:
        max_rejected: A share in [0, 1).
        confidence: None, or a probability in (0, 1).
    """
    if not 0 <= max_rejected < 1:
        raise ValueError(f"`max_rejected` must be a share in [0, 1), such as 0.05. Received: {max_rejected}.")
    if confidence is None:
        return
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be None or lie in (0, 1), such as 0.95. Received: {confidence}.")
    if max_rejected == 0:
        raise ValueError("No number of samples shows that none will be rejected. Pass `max_rejected` above 0, or no `confidence`.")


def promise(max_rejected: float, confidence: float | None = None) -> str:
    """The promise as a sentence.

    Args:
        max_rejected: The share of fresh clean samples that may be rejected.
        confidence: How sure the promise must be; None promises the mean.

    Example:

    >>> promise(0.05, 0.95)
    'with 95 % confidence at most 5 % of fresh clean samples are rejected'
    """
    if max_rejected == 0:
        return "none of these samples is rejected"
    sure = "on average" if confidence is None else f"with {100 * confidence:.4g} % confidence"
    return f"{sure} at most {100 * max_rejected:.4g} % of fresh clean samples are rejected"


def rank(samples: int, max_rejected: float, confidence: float | None = None) -> int:
    """Which of the largest scores is a threshold that keeps the promise: 5 is the fifth largest. 0 where samples are too few.

    Args:
        samples: Number of held-out samples.
        max_rejected, confidence: The promise.

    Example:

    >>> rank(100, 0.05), rank(100, 0.05, confidence=0.95), rank(10, 0.05)
    (5, 2, 0)
    """
    if confidence is None:
        return int(max_rejected * (samples + 1) + _EPSILON)
    ranks = np.arange(1, samples + 1)
    return int(np.sum(_in_doubt(ranks, samples, max_rejected) <= 1 - confidence + 1e-12))


def _in_doubt(ranks, samples, max_rejected):
    """How often the threshold of that rank rejects more: Binomial(samples, max_rejected) < rank."""
    from scipy.special import bdtr

    return bdtr(ranks - 1.0, samples, max_rejected)


def fewest(max_rejected: float, confidence: float | None = None, ranks: int = 1) -> int:
    """The smallest number of samples that a promise takes.

    Args:
        max_rejected, confidence: The promise.
        ranks: What `rank` must be at least.

    Example:

    >>> fewest(0.05), fewest(0.05, 0.95)
    (19, 59)
    """
    low, high = 0, 1
    while rank(high, max_rejected, confidence) < ranks:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if rank(middle, max_rejected, confidence) >= ranks else (middle, high)
    return high


def thresholds(
    scores: np.ndarray,
    decide: Callable[[np.ndarray], Any] | None = None,
    max_rejected: float = 0.05,
    confidence: float | None = None,
) -> np.ndarray:
    """The threshold of each detector, above which it rejects, so that joined they keep the promise.

    `max_rejected=0` promises nothing of fresh samples: none of these is rejected.

    Args:
        scores: Detector scores of clean samples, shape (detectors, samples). A sample with NaN or -inf is rejected at any
            threshold; +inf is above every threshold of its detector.
        decide: Which samples are rejected, from which detectors reject which, both boolean; monotone. None joins by "any".
        max_rejected: The share of fresh clean samples that may be rejected.
        confidence: How sure the promise must be; None promises the mean.

    Example:

    >>> thresholds(np.arange(100.0)[None], max_rejected=0.05)
    array([95.])
    """
    scores = np.array(scores)
    joined = joined_by(decide, scores)
    none = np.zeros(scores.shape, bool)
    always, never = joined(none), ~joined(~none)
    scores[:, always] = np.inf
    alone, needed = decisive(joined, none)
    # Where a detector decides nothing, it neither cuts a sample off nor keeps it.
    if np.array_equal(joined(alone), ~never) and np.array_equal(joined(~alone), always):
        found = _any(np.where(always, np.inf, np.where(alone, scores, -np.inf)), always, max_rejected, confidence)
    else:
        found = np.full(len(scores), np.inf)
        if np.array_equal(joined(needed), ~never):
            masked = np.where(always, np.inf, np.where(never, -np.inf, np.where(needed, scores, np.inf)))
            found = _all(masked, always, max_rejected, confidence)
        if np.isposinf(found).any():
            found = _halves(scores, joined, max_rejected, confidence)
    # Below the lowest there is nothing to tell apart; -inf would be no threshold.
    found = np.maximum(found, scores.min(axis=1))
    if np.isposinf(found).any():
        raise NoRoom(
            "One of the detectors scores all of these samples +inf that might be accepted, so it has no threshold. "
            "Check that they are valid inputs and that the defense is adapted."
        )
    return found


def joined_by(decide, scores):
    """How detectors are joined, with what is no score or above every threshold as it is; None joins by "any"."""
    decide = decide or (lambda rejects: rejects.any(axis=0))
    lost, above = ~(scores > -np.inf).all(axis=0), np.isposinf(scores)
    return lambda rejects: decide(rejects | above) | lost


def decisive(decide, none):
    """For each detector, the samples that it rejects alone, and those that all others together do not."""
    alone, needed = np.zeros_like(none), np.zeros_like(none)
    for index in range(len(none)):
        only = none.copy()
        only[index] = True
        alone[index], needed[index] = decide(only), ~decide(~only)
    return alone, needed


def _any(scores, always, max_rejected, confidence):
    detectors, samples = scores.shape
    if max_rejected == 0:
        if always.any():
            raise _no_room(always, max_rejected)
        return cut(scores, 0)
    allowed = rank(samples, max_rejected, confidence)
    # A detector that cuts nothing off has no threshold.
    if allowed < detectors:
        raise _too_few(samples, max_rejected, confidence, fewest(max_rejected, confidence, detectors))
    if always.sum() + detectors > allowed:
        raise _no_room(always, max_rejected)
    return cut(scores, allowed)


def _all(scores, always, max_rejected, confidence):
    samples = scores.shape[1]
    allowed = rank(samples, max_rejected, confidence) if max_rejected else 1
    if allowed < 1:
        raise _too_few(samples, max_rejected, confidence, fewest(max_rejected, confidence))
    if always.sum() >= allowed:
        raise _no_room(always, max_rejected)
    return -cut(-scores, samples + 1 - allowed)


def cut(scores, number):
    """The scores at which each detector cut last, after so many cuts; its highest where it cut nothing."""
    order = np.argsort(-scores, axis=1, kind="stable")
    if len(scores) == 1:
        return scores[:, order[0, max(number, 1) - 1]]
    gone, behind = np.zeros(scores.shape[1], bool), [0] * len(scores)
    for _ in range(number):
        detector = behind.index(min(behind))
        while gone[order[detector, behind[detector]]]:
            behind[detector] += 1
        gone[order[detector, behind[detector]]] = True
        behind[detector] += 1
    return np.array([one[places[max(count, 1) - 1]] for one, places, count in zip(scores, order, behind, strict=True)])


def _halves(scores, joined, max_rejected, confidence):
    samples = scores.shape[1]
    half = counted = np.ones(samples, bool)
    allowed = 1
    if max_rejected:
        half = halved(samples)
        counted, allowed = ~half, rank(samples - samples // 2, max_rejected, confidence)
    # What is above every threshold sets none.
    falling = -np.sort(-np.where(scores < np.inf, scores, -np.inf)[:, half], axis=1)

    def rejected(count):
        return joined(scores > falling[:, count, None])[counted].sum()

    always = joined(np.zeros(scores.shape, bool))
    if always[counted].sum() >= allowed >= 1:
        raise _no_room(always, max_rejected)
    if allowed < 1 or not half.any() or rejected(0) >= allowed:
        # How many suffice depends on the scores.
        least = 2 * fewest(max_rejected, confidence, len(scores) + 1)
        raise _too_few(samples, max_rejected, confidence, max(least, 2 * samples), usually=True)
    low, high = 0, falling.shape[1] - 1
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rejected(middle) < allowed else (low, middle - 1)
    return falling[:, low]


def halved(samples):
    """Which samples are in one half, by lot: in the order in which they came, it may be other classes than the other."""
    return np.random.default_rng(0).permutation(samples) < samples // 2


def _no_room(always, max_rejected):
    return NoRoom(
        f"{always.mean():.1%} of these samples have a detector score that is not finite and are rejected at any threshold. "
        f"Received `max_rejected={max_rejected}`. Check that they are valid inputs and that the defense is adapted."
    )


def _too_few(samples, max_rejected, confidence, needed, usually=False):
    error = TooFew(
        f"{samples} samples are too few to promise that {promise(max_rejected, confidence)}. "
        f"Expected {f'more; {needed} usually suffice' if usually else f'at least {needed}'}. Calibrate on more, or allow more."
    )
    error.needed = needed
    return error
