"""Thresholds under which the accepted samples are rarely wrong: selection with guaranteed risk, for one detector or several.

**The promise.** The risk of thresholds is the error rate among the fresh samples that they accept. n labelled samples are drawn
independently from what will come. `risk_thresholds` gives thresholds whose risk is at most r in a share `confidence` of such draws.

**One count.** Let b be the (m + 1)-th lowest score, and let what is below b be accepted. Given b, the m samples below it are
independent draws from what is accepted. So the number of wrong ones among them follows Binomial(m, R), with R the risk of b:
exactly, whatever the score and the classifier are. With k of them wrong, p = P(Binomial(m, r) <= k). If R > r, then p <= d
happens with probability d at most.

**Many counts.** The K counts that are tried follow from n alone. Each is tested with d = (1 - confidence) / K. So with probability
`confidence` no count passes whose risk is above r (Bonferroni), and any that passes may be chosen: here the one that accepts most.
A fixed sequence of tests would spend no K, but must begin where few are accepted; it is only valid if the thresholds come from
other samples, which costs half of them. The thresholds of this module look at all samples and need no such split.

**Several detectors.** Any: samples are cut off one after the other, as in `rates`. Given what is cut off, the m samples left are
independent draws from what is accepted, so all of the above holds. All, and nested: one half of the samples, drawn at random, sets
the thresholds of each count; given these, the accepted ones of the other half are independent draws, and are tested.

**Ties and scores that are not finite.** Of samples tied with b none is accepted; the test takes the number that is left, which is
known given b. What is rejected at any threshold is left out at first: it is never accepted, and the others are still independent
draws.

References: Geifman and El-Yaniv, 2017, Selective classification for deep neural networks; Angelopoulos et al., 2021, Learn then
test: calibrating predictive algorithms to achieve risk control.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tfdefense.conformal.rates import TooFew, cut, decisive, halved, joined_by

# Shares of the samples that are cut off by the counts that are tried: close together where few are rejected.
SHARES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, *(step / 20 for step in range(2, 19)))


class NoThreshold(ValueError):
    """No threshold keeps the risk: `least` is the lowest risk that can be promised of any of them."""

    least: float


def check_risk(risk: float, confidence: float | None = 0.95) -> float:
    """Refuses a risk that cannot be promised. Gives the confidence, which is 0.95 where it is None.

    Args:
        risk: The share of accepted samples that may be wrong, in (0, 1).
        confidence: How sure the promise must be.

    Example:

    >>> check_risk(0.01, None)
    0.95
    """
    if not 0 < risk < 1:
        raise ValueError(f"`risk` must be a share between 0 and 1, such as 0.01. Received: {risk}.")
    confidence = 0.95 if confidence is None else confidence
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie in (0, 1), such as 0.95. Received: {confidence}.")
    return confidence


def risk_promise(risk: float, confidence: float = 0.95) -> str:
    """The promise as a sentence.

    Args:
        risk, confidence: The promise.

    Example:

    >>> risk_promise(0.01)
    'with 95 % confidence at most 1 % of the accepted samples are wrong'
    """
    return f"with {100 * confidence:.4g} % confidence at most {100 * risk:.4g} % of the accepted samples are wrong"


def risk_thresholds(
    scores: np.ndarray,
    wrong: np.ndarray,
    decide: Callable[[np.ndarray], Any] | None = None,
    risk: float = 0.01,
    confidence: float = 0.95,
) -> np.ndarray:
    """The threshold of each detector, *below* which it accepts, so that joined they keep the promise and accept the most.

    Args:
        scores: Detector scores of labelled samples, shape (detectors, samples).
        wrong: Which of them the classifier gets wrong, shape (samples,).
        decide: How detectors are joined, as for `thresholds`; None joins by "any".
        risk: Error rate among accepted samples.
        confidence: How sure the promise must be.

    Example: a detector that is right about which samples are in doubt.

    >>> score = np.arange(1000.0)
    >>> risk_thresholds(score[None], score >= 800, risk=0.01, confidence=0.95)
    array([800.])
    """
    confidence = check_risk(risk, confidence)
    scores, wrong = np.array(scores), np.asarray(wrong, bool)
    candidates = list(_candidates(scores, joined_by(decide, scores)))
    if not candidates:
        raise _too_few(scores.shape[1], 1, len(scores), risk, confidence)
    doubt = (1 - confidence) / len(candidates)
    numbers = np.array([accepted.sum() for _, accepted in candidates])
    errors = np.array([(accepted & wrong).sum() for _, accepted in candidates])
    if (1 - risk) ** numbers.max() > doubt:
        raise _too_few(scores.shape[1], scores.shape[1] - numbers.max(), len(scores), risk, confidence)
    passed = np.flatnonzero(_in_doubt(errors, numbers, risk) <= doubt)
    if not len(passed):
        raise _none_passed(errors, numbers, doubt, scores.shape[1], risk, confidence)
    return candidates[passed[np.argmax(numbers[passed])]][0]


def _candidates(scores, joined) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of thresholds, at which and above which a detector rejects, and the samples that tell of their risk: those accepted."""
    detectors, samples = scores.shape
    none = np.zeros(scores.shape, bool)
    left = ~joined(none)
    alone, _ = decisive(joined, none)
    by_any = alone[:, left].all()
    half = left if by_any else left & halved(samples)
    points = scores[:, half]
    counts = {max(detectors, int(np.ceil(share * points.shape[1]))) for share in SHARES}
    for count in sorted(counts):
        if count >= points.shape[1]:
            continue
        if by_any:
            found = cut(points, count)
            yield found, left & (scores < found[:, None]).all(axis=0)
        else:
            found = -np.sort(-np.where(points < np.inf, points, -np.inf), axis=1)[:, count - 1]
            if np.isfinite(found).all():
                yield found, left & ~half & ~joined(scores >= found[:, None])


def _in_doubt(errors, numbers, risk):
    """How likely so few errors are, or fewer, where the risk is as large as that; 1 where none is accepted."""
    from scipy.special import bdtr

    return np.where(numbers > 0, bdtr(errors.astype(float), np.maximum(numbers, 1), risk), 1.0)


def _upper(errors, numbers, doubt):
    """The risk at which so few errors are as likely as `doubt`: Clopper and Pearson's upper bound."""
    from scipy.special import betaincinv

    some = errors < numbers
    return np.where(some, betaincinv(errors + 1, np.maximum(numbers - errors, 1), 1 - doubt), 1.0)


def _too_few(samples, lost, detectors, risk, confidence):
    accepted = int(np.ceil(np.log((1 - confidence) / len(SHARES)) / np.log1p(-risk)))
    # What was lost is lost of more samples too.
    share = min(0.9, (lost - detectors) / samples) if samples and lost > detectors else 0.0
    needed = int(np.ceil(accepted / (1 - share))) + detectors
    error = TooFew(
        f"{samples} samples are too few to promise that {risk_promise(risk, confidence)}, even if the classifier has all of them "
        f"right. Expected at least {needed}. Calibrate on more, or allow more."
    )
    error.needed = needed
    return error


def _none_passed(errors, numbers, doubt, samples, risk, confidence):
    bounds = _upper(errors, numbers, doubt)
    best = int(np.argmin(bounds))
    error = NoThreshold(
        f"No threshold on these {samples} samples lets it be promised that {risk_promise(risk, confidence)}. The best one accepts "
        f"{numbers[best]} of them, {errors[best]} of which are wrong, which promises {100 * bounds[best]:.2g} %. Allow more, "
        "calibrate on more samples, or take a detector score that tells the errors of the classifier better."
    )
    error.least = float(bounds[best])
    return error
