"""How well a detector score tells adversarial samples from clean ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import check_numbers

if TYPE_CHECKING:
    from .outcomes import Outcomes


@dataclass(frozen=True, eq=False, repr=False)
class Roc:
    """Rates of a detector at every threshold that matters.

    Attributes:
        fpr: Share of negatives (clean) with a value above the threshold.
        tpr: Share of positives (perturbed) with a value above the threshold.
        thresholds: Decreasing; the first rejects nothing, the last (-inf) everything.
        auc: Probability that a positive is more suspicious than a negative, ties counting half.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    thresholds: np.ndarray
    auc: float

    def tpr_at(self, fpr: float) -> float:
        """The best true-positive rate at a false-positive rate of at most this.

        >>> roc([0.0, 1.0], [0.5, 2.0]).tpr_at(0.0)
        0.5
        """
        if not 0 <= fpr <= 1:
            raise ValueError(f"`fpr` must lie in (0, 1). Received {fpr}. Pass a share, such as 0.05 for 5 %.")
        return float(self.tpr[self.fpr <= fpr].max())

    def to_series(self, row: str, what: str) -> dict[str, Any]:
        """The curve as a `series` entry of a results file."""
        return {"row": row, "what": what, "x": self.fpr.tolist(), "y": self.tpr.tolist(), "deviation": []}

    def __repr__(self):
        return f"Roc(auc={self.auc:.4f}, {len(self.thresholds)} thresholds)"


def roc(negative: ArrayLike | Outcomes, positive: ArrayLike | Outcomes) -> Roc:
    """ROC curve of a detector.

    A threshold t rejects what is *above* t, as in a defended model, so that a suspicion of +inf is rejected at any.

    Args:
        negative: Suspicion of clean samples, or their `Outcomes`.
        positive: Suspicion of perturbed samples, or their `Outcomes`.

    Example:

    >>> curve = roc(negative=[0.1, 0.4], positive=[0.3, 0.9])
    >>> curve.auc, curve.thresholds.tolist()
    (0.75, [0.9, 0.4, 0.3, 0.1, -inf])
    """
    negative, positive = np.sort(_suspicion(negative, "negative")), np.sort(_suspicion(positive, "positive"))
    thresholds = np.append(np.unique(np.concatenate([negative, positive]))[::-1], -np.inf)
    # Counts are divided last: 1 - 0.8 is not the 0.2 that a caller of `tpr_at` would type.
    fpr, tpr = ((len(v) - np.searchsorted(v, thresholds, side="right")) / len(v) for v in (negative, positive))
    fpr[-1] = tpr[-1] = 1.0  # -inf stands for "reject everything", values of -inf with the rest
    return Roc(fpr, tpr, thresholds, _auc(negative, positive))


def auc(negative: ArrayLike | Outcomes, positive: ArrayLike | Outcomes) -> float:
    """Area under the ROC curve: scikit-learn's `roc_auc_score`, with infinities allowed.

    Example:

    >>> auc(negative=[0, 1, 1], positive=[1, 2, float("inf")])
    0.8888888888888888

    Args:
        negative: Detector scores of clean samples.
        positive: Of those that should be rejected.
    """
    return _auc(np.sort(_suspicion(negative, "negative")), _suspicion(positive, "positive"))


def detectability(clean: ArrayLike | Outcomes, adversarial: ArrayLike | Outcomes, threshold: float = 0.0) -> float:
    """Accuracy of a detector on clean / adversarial pairs, both kinds with equal weight.

    Args:
        clean, adversarial: Suspicion of the samples, or their `Outcomes`.
        threshold: What lies above is called adversarial.

    Example:

    >>> detectability(clean=[-1, -2, 0.5, -1], adversarial=[3, 1, -1, 2])
    0.75
    """
    if np.isnan(threshold):
        raise ValueError("`threshold` must be a number. Received NaN. Pass 0, or calibrate the model first.")
    clean, adversarial = _suspicion(clean, "clean"), _suspicion(adversarial, "adversarial")
    return float(((clean <= threshold).mean() + (adversarial > threshold).mean()) / 2)


def _auc(sorted_negative, positive):
    below = np.searchsorted(sorted_negative, positive, side="left")
    not_above = np.searchsorted(sorted_negative, positive, side="right")
    return float((below.sum() + not_above.sum()) / (2 * len(sorted_negative) * len(positive)))


def _suspicion(values, name):
    if hasattr(values, "suspicion"):
        values = values.suspicion
        if values is None:
            raise ValueError(
                f"`{name}` must have a suspicion. Received the outcomes of a plain classifier. "
                "Attach a defense, or pass a detector score of your own, such as minus the confidence."
            )
    return check_numbers(values, name)
