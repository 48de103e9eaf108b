"""How well a detector score tells the errors of a classifier: its risk against the share of samples that it still answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import check_same_length

from .detector_metrics import _suspicion

if TYPE_CHECKING:
    from .outcomes import Outcomes


@dataclass(frozen=True, eq=False, repr=False)
class RiskCoverage:
    """The risk-coverage curve: which share is wrong of the least suspicious samples, for each number of them.

    Attributes:
        coverage: Shares of samples that are accepted, 1/n, 2/n, ..., 1.
        risk: Which share of these the classifier gets wrong. Within a tie it is the mean over all orders.
        suspicion: The detector score of the last sample that is accepted.
        aurc: Area under the curve, the mean of `risk`: 0 is best, the error rate is what chance gives.
        excess_aurc: How much larger the area is than that of a perfect order of the same samples.
    """

    coverage: np.ndarray
    risk: np.ndarray
    suspicion: np.ndarray
    aurc: float
    excess_aurc: float

    def risk_at(self, coverage: float) -> float:
        """The error rate among the least suspicious samples, at least this share of all.

        >>> risk_coverage([1.0, 2.0, 3.0, 4.0], [False, True, False, True]).risk_at(0.5)
        0.5
        """
        if not 0 < coverage <= 1:
            raise ValueError(f"`coverage` must lie in (0, 1]. Received {coverage}. Pass a share, such as 0.9 for 90 %.")
        return float(self.risk[np.searchsorted(self.coverage, coverage - 1e-12)])

    def coverage_at(self, risk: float) -> float:
        """The largest share of these samples whose error rate is at most `risk`; 0 where there is none.

        Of these samples: of fresh ones it promises nothing. `td.calibrate(..., risk=)` does.

        >>> risk_coverage([1.0, 2.0, 3.0, 4.0], [False, True, False, True]).coverage_at(0.34)
        0.75
        """
        if not 0 <= risk <= 1:
            raise ValueError(f"`risk` must lie in (0, 1). Received {risk}. Pass a share, such as 0.01 for 1 %.")
        # Within a tie no threshold parts the samples.
        ends = np.append(self.suspicion[1:] != self.suspicion[:-1], True)
        reached = self.coverage[(self.risk <= risk) & ends]
        return float(reached.max()) if len(reached) else 0.0

    def to_series(self, row: str, what: str) -> dict[str, Any]:
        """The curve as a `series` entry of a results file."""
        return {"row": row, "what": what, "x": self.coverage.tolist(), "y": self.risk.tolist(), "deviation": []}

    def __repr__(self):
        return f"RiskCoverage(aurc={self.aurc:.4f}, {len(self.risk)} samples)"


def risk_coverage(suspicion: ArrayLike | Outcomes, wrong: ArrayLike | None = None) -> RiskCoverage:
    """The risk-coverage curve of a detector score and a classifier, on clean samples.

    Args:
        suspicion: Detector score of each sample, or its `Outcomes`.
        wrong: Which samples the classifier gets wrong, were none rejected; None where `Outcomes` know.

    Example:

    >>> curve = risk_coverage([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    >>> curve.risk.round(2).tolist(), round(curve.aurc, 4), curve.excess_aurc
    ([0.0, 0.0, 0.33, 0.5], 0.2083, 0.0)

    Reference: Geifman, Uziel and El-Yaniv, 2019, Bias-reduced uncertainty estimation for deep neural classifiers.
    """
    if wrong is None:
        from .outcomes import Outcomes

        if not isinstance(suspicion, Outcomes):
            raise ValueError("Expected what is wrong. Received scores alone: pass `wrong`, or the `Outcomes` of `td.evaluate`.")
        wrong = suspicion._known_guess() != suspicion.y
    scores, wrong = _suspicion(suspicion, "suspicion"), np.asarray(wrong)
    if wrong.dtype != bool:
        raise ValueError(f"`wrong` must be booleans. Received {wrong.dtype}. Pass `guess != y`.")
    check_same_length(suspicion=scores, wrong=wrong)
    _, place, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    errors = np.bincount(place, wrong, len(sizes))
    # Each sample of a tie is as likely wrong as the others.
    each = np.repeat(errors / sizes, sizes)
    numbers = np.arange(1, len(scores) + 1)
    risk = np.cumsum(each) / numbers
    perfect = np.cumsum(np.sort(wrong)) / numbers
    aurc = float(risk.mean())
    return RiskCoverage(numbers / len(scores), risk, np.sort(scores), aurc, max(0.0, aurc - float(perfect.mean())))


def aurc(suspicion: ArrayLike | Outcomes, wrong: ArrayLike | None = None) -> float:
    """Area under the risk-coverage curve; see `risk_coverage`.

    Example: a score that says nothing has the error rate.

    >>> aurc([1.0, 1.0, 1.0, 1.0], [False, True, False, False])
    0.25

    Args:
        suspicion, wrong: As of `risk_coverage`.
    """
    return risk_coverage(suspicion, wrong).aurc
