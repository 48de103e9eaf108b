"""Tests that may be looked at after every sample: however often and however long, false alarms keep below the promised rate.

**Theorem 1** (Vovk, Nouretdinov and Gammerman, 2003, Testing exchangeability on-line; Vovk, Gammerman and Shafer, 2005,
Algorithmic learning in a random world). Let z_1, z_2, ... be exchangeable, and u_1, u_2, ... uniform on (0, 1), independent of all
else. The smoothed ranks p_t = (#{i < t: z_i > z_t} + u_t #{i <= t: z_i = z_t}) / t are independent and uniform on (0, 1).

Here the first z are the pool, held-out samples at calibration, and the others come in service. Suspicions are put into bins whose
edges come from other held-out samples: given these, pool and service are exchangeable as long as nothing has drifted, and the
counts of the bins are all that need be remembered. No distribution is assumed. A threshold is the same shift of all suspicions
and moves no rank, so the samples may be those that it was calibrated on; the detector must not have been adapted on them.

**Theorem 2** (Ville, 1939). A process that is not negative, starts at 1, and is never expected to grow, passes 1 / alpha at any
time with probability at most alpha.

If p is uniform and f a density on (0, 1), f(p) is expected to be 1. So M_t = f(p_1) ... f(p_t) is such a process, and so is every
average of these, over densities and over the times at which they begin. Such an average is the `evidence`: what somebody would
have who bets on a drift with 1 at the start. Drifts may begin late, so bets are placed at every 64th sample, the j-th with
the share 1 / ((j + 1) (j + 2)) of the start; what is left is kept.

**Theorem 3** (Robbins, 1970, Statistical methods related to the law of the iterated logarithm; Howard et al., 2021, Time-uniform,
nonparametric, nonasymptotic confidence sequences). For independent trials of probability p, s of n successful, the mixture
B(s + 1/2, n - s + 1/2) / (B(1/2, 1/2) p^s (1 - p)^(n - s)) is such a process. The p for which it is below 1 / alpha are an interval
that holds the true one at all times at once, with probability at least 1 - alpha.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaln, xlog1py, xlogy

# Samples between two bets.
EVERY = 64
# Samples that are looked at together; memory alone.
_CHUNK = 2048


def _bets():
    """Densities on (0, 1) as rows (edges, heights), constant in between: more mass in a tail, in both, or in the middle."""
    found: list[tuple[list[float], tuple[float, ...]]] = []
    for tail, mass in ((0.01, 0.02), (0.01, 0.05), (0.05, 0.1), (0.05, 0.25), (0.2, 0.4), (0.2, 0.8), (0.5, 0.75)):
        low = (mass / tail, (1 - mass) / (1 - tail))
        found += [([tail], low), ([1 - tail], low[::-1])]
    for tail, mass in ((0.1, 0.2), (0.1, 0.4), (0.5, 0.25)):
        out, inside = mass / tail, (1 - mass) / (1 - tail)
        found.append(([tail / 2, 1 - tail / 2], (out, inside, out)))
    return found


def _table():
    """All bets over cells that none of them has an edge in: edges, and logarithms of the heights, (cells, bets)."""
    bets = _bets()
    edges = np.unique(np.concatenate([own for own, _ in bets]))
    middles = (np.concatenate([[0], edges]) + np.concatenate([edges, [1]])) / 2
    return edges, np.log(np.stack([np.asarray(heights)[np.searchsorted(own, middles)] for own, heights in bets], axis=1))


EDGES, HEIGHTS = _table()


class Exchangeability:
    """The evidence that labels, which come one after the other, are not exchangeable with those of a pool.

    Args:
        counts: How often each bin is in the pool, shape (bins,), or (services, bins) for several services at once.
    """

    def __init__(self, counts: np.ndarray):
        self.counts = np.array(counts, "float64", ndmin=2)
        bets = (len(self.counts), HEIGHTS.shape[1])
        # Logarithms: of the product of each bet since the start, and of the sum over its beginnings of weight / product then.
        self.product, self.begun = np.zeros(bets), np.full(bets, -np.inf)
        self.seen = 0

    def update(self, bins: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """The logarithm of the evidence after each sample, shape (services, samples)."""
        bins, uniform = np.atleast_2d(bins), np.atleast_2d(uniform)
        parts = [np.empty((len(bins), 0))]
        for start in range(0, bins.shape[1], _CHUNK):
            part = slice(start, start + _CHUNK)
            parts.append(self._evidence(self._ranks(bins[:, part], uniform[:, part])))
        return np.concatenate(parts, axis=1)

    def _ranks(self, bins, uniform):
        """The smoothed ranks of theorem 1: near 0 for what is more suspicious than all before."""
        there = np.zeros((*bins.shape, self.counts.shape[1]))
        np.put_along_axis(there, bins[..., None], 1.0, axis=-1)
        after = self.counts[:, None] + np.cumsum(there, axis=1)
        self.counts = after[:, -1]
        # The sample itself is among its equals, and in no other bin.
        at_least = np.take_along_axis(np.cumsum(after[..., ::-1], axis=-1)[..., ::-1], bins[..., None], axis=-1)[..., 0]
        equal = np.take_along_axis(after, bins[..., None], axis=-1)[..., 0]
        return (at_least - equal + uniform * equal) / after.sum(axis=-1)

    def _evidence(self, ranks):
        gained = HEIGHTS[np.searchsorted(EDGES, ranks)]
        after = self.product[:, None] + np.cumsum(gained, axis=1)
        numbers = self.seen + np.arange(ranks.shape[1])
        begins, bet = numbers % EVERY == 0, numbers // EVERY
        # A bet that begins at a sample is multiplied by what this sample gains.
        weight = np.where(begins, -np.log((bet + 1.0) * (bet + 2.0)), -np.inf)
        new = weight[None, :, None] - (after - gained)
        begun = np.logaddexp.accumulate(np.concatenate([self.begun[:, None], new], axis=1), axis=1)[:, 1:]
        self.product, self.begun, self.seen = after[:, -1], begun[:, -1], self.seen + ranks.shape[1]
        kept = -np.log(bet + 2.0)[None, :, None]
        every = np.logaddexp(after + begun, kept)
        most = every.max(axis=-1, keepdims=True)
        return (most + np.log(np.exp(every - most).mean(axis=-1, keepdims=True)))[..., 0]

    def state(self) -> dict:
        """All that a service needs to go on, of the first one."""
        named = {"counts": self.counts[0], "product": self.product[0], "begun": self.begun[0]}
        # The bets that have not begun are no numbers of JSON.
        return {"seen": self.seen} | {name: np.maximum(value, -1e300).tolist() for name, value in named.items()}

    @classmethod
    def of_state(cls, state: dict) -> Exchangeability:
        found = cls(state["counts"])
        found.product, found.begun = (np.array(state[name], "float64", ndmin=2) for name in ("product", "begun"))
        if found.product.shape[1] != HEIGHTS.shape[1] or found.begun.shape != found.product.shape:
            raise ValueError("The state is of another version of the test. Begin anew from the reference.")
        found.seen = int(state["seen"])
        return found


def confidence_sequence(successes: int, samples: int, alpha: float) -> tuple[float, float]:
    """The interval of theorem 3 for a share, which holds at all times at once.

    Example:

    >>> [round(end, 3) for end in confidence_sequence(50, 1000, 0.05)]
    [0.029, 0.079]
    """
    if samples == 0:
        return 0.0, 1.0
    failures = samples - successes
    # Numbers of Python: a monitor asks often.
    most = float(betaln(successes + 0.5, failures + 0.5) - betaln(0.5, 0.5)) + math.log(alpha)

    def holds(p):
        return most < (successes and successes * math.log(p)) + (failures and failures * math.log1p(-p))

    share = successes / samples
    return (0.0 if successes == 0 else _end(holds, share, 0.0)), (1.0 if failures == 0 else _end(holds, share, 1.0))


def is_above(successes: ArrayLike, samples: ArrayLike, limit: ArrayLike, alpha: float) -> np.ndarray:
    """Whether the whole interval lies above a limit in (0, 1), for many at once."""
    successes, samples = np.asarray(successes), np.asarray(samples)
    return (successes > limit * samples) & (log_mixture(successes, samples, limit) >= -np.log(alpha))


def log_mixture(successes: ArrayLike, samples: ArrayLike, p: ArrayLike) -> np.ndarray:
    """The logarithm of the process of theorem 3."""
    successes, p = np.asarray(successes), np.asarray(p)
    failures = samples - successes
    return betaln(successes + 0.5, failures + 0.5) - betaln(0.5, 0.5) - xlogy(successes, p) - xlog1py(failures, -p)


def _end(holds, inside, beyond):
    """The end of an interval between a point in it and one that is not, by bisection."""
    for _ in range(60):
        middle = (inside + beyond) / 2
        if middle in (inside, beyond):
            break
        inside, beyond = (middle, beyond) if holds(middle) else (inside, middle)
    return float(beyond)
