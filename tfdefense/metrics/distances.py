"""How far the attacker had to go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Bounds, finite_bounds

NORMS = {"linf": np.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True, eq=False, repr=False)
class Distortion:
    """Distances of adversarial examples; the statistics are over the successful ones, and NaN where there are none.

    Attributes:
        distance: Length of each perturbation in `norm`, in the units of x.
        rms: `||x - x*||_2 / sqrt(d)` of each perturbation, with pixels rescaled to 0..255.
        success: Whether the attack succeeded on the sample.
        norm: "linf", "l2" or "l1".
    """

    distance: np.ndarray
    rms: np.ndarray
    success: np.ndarray
    norm: str

    def __len__(self):
        return len(self.success)

    @property
    def success_rate(self) -> float:
        """Share of samples on which the attack succeeded."""
        return float(self.success.mean())

    @property
    def mean(self) -> float:
        """Mean distance of the successful examples."""
        return float(self.distance[self.success].mean()) if self.success.any() else float("nan")

    @property
    def median(self) -> float:
        """Median distance of the successful examples."""
        return self.quantile(0.5)

    @property
    def mean_rms(self) -> float:
        """Mean `rms` of the successful examples."""
        return float(self.rms[self.success].mean()) if self.success.any() else float("nan")

    @property
    def median_of_all(self) -> float:
        """Median distance with every failure at infinity: an attack cannot lower it by failing on the hard samples."""
        return float(np.median(np.where(self.success, self.distance, np.inf)))

    def quantile(self, q: float | Sequence[float] | np.ndarray) -> Any:
        """Quantile(s) of the distance of the successful examples."""
        if not np.all((np.asarray(q) >= 0) & (np.asarray(q) <= 1)):
            raise ValueError(f"`q` must lie in (0, 1). Received {q}. Pass shares, such as 0.9.")
        if not self.success.any():
            return float("nan") if np.ndim(q) == 0 else np.full(np.shape(q), np.nan)
        value = np.quantile(self.distance[self.success], q)
        return float(value) if np.ndim(q) == 0 else value

    def success_within(self, distance: float) -> float:
        """Success rate at most this far away: in a ball of that size."""
        return float((self.success & (self.distance <= distance)).mean())

    def __repr__(self):
        return (
            f"Distortion({len(self)} samples: {100 * self.success_rate:.1f} % succeeded, {self.norm} median "
            f"{self.median:.4g}, mean {self.mean:.4g}, rms {self.mean_rms:.4g} of 255)"
        )


def distortion(
    x: ArrayLike, adversarial: Any, *, success: ArrayLike | None = None, norm: str | None = None, bounds: Bounds = (0.0, 1.0)
) -> Distortion:
    """Statistics of the distance between samples and their adversarial examples.

    A sample that was wrong from the start succeeds at distance 0: for the papers' numbers, leave such samples out.

    Args:
        x: Clean samples.
        adversarial: The result of an attack on them, or an array; then `success` is needed.
        success: Booleans of shape (n,). By default the attack's own.
        norm: "linf", "l2" or "l1". By default the attack's own, else "l2".
        bounds: Lowest and highest value of a pixel, for the unit of 0..255.

    Example:

    >>> import numpy as np
    >>> x = np.zeros((2, 4))
    >>> distortion(x, x + [[0.2], [0.4]], success=[True, True])
    Distortion(2 samples: 100.0 % succeeded, l2 median 0.6, mean 0.6, rms 76.5 of 255)
    """
    x_adv = getattr(adversarial, "x_adv", adversarial)
    success = getattr(adversarial, "success", None) if success is None else success
    norm = norm or getattr(adversarial, "norm", None) or "l2"
    if norm not in NORMS:
        raise ValueError(f"`norm` must be one of {', '.join(NORMS)}. Received {norm!r}. Pass norm='l2'.")
    if success is None:
        raise ValueError(
            "`success` must say on which samples the attack succeeded. Received an array and no `success`. "
            "Pass the result of the attack, or `success=outcomes.wrong`."
        )
    low, high = finite_bounds(bounds)
    x, x_adv, success = np.asarray(x), np.asarray(x_adv), np.asarray(success)
    if x.shape != x_adv.shape or x.ndim < 2 or success.shape != x.shape[:1] or success.dtype != bool or not len(x):
        raise ValueError(
            "`x` and the adversarial examples must have one shape (n, ...), and `success` n booleans. "
            f"Received {x.shape}, {x_adv.shape} and {success.shape} of {success.dtype}. Pass the samples attacked."
        )
    change = (x_adv.astype("float64") - x).reshape(len(x), -1)
    if not np.isfinite(change[success]).all():
        raise ValueError(
            "Successful adversarial examples must be finite. Received NaN or infinity. "
            "Count them as failures, or clip them to the bounds."
        )
    rms = np.sqrt((change**2).mean(axis=1)) * 255 / (high - low)
    return Distortion(np.linalg.norm(change, ord=NORMS[norm], axis=1), rms, success, norm)
