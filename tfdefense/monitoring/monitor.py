"""Watches a model in service."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._files import write_text
from tfdefense._reasons import ALL_REASONS, INVALID, SUSPICIOUS, UNREADABLE
from tfdefense._validation import PathLike, check_number, check_numbers, check_same_length
from tfdefense.monitoring.reference import checked_reference
from tfdefense.monitoring.sequential import Exchangeability, confidence_sequence, is_above

# The last suspicions, which are compared with the reference one by one.
WINDOW = 1000
_HISTORY = 1000
_TABLES = 10_000


@dataclass(frozen=True)
class Status:
    """What a monitor has found so far.

    Attributes:
        samples, rejected: How many it has seen, and how many of them were rejected, for whatever reason.
        rate, interval: Share of rejected ones, and a 95 % interval that holds at all times at once.
        reasons: Reason -> (count, share, interval).
        expected: What the rate may be without a drift, as far as the held-out samples can tell.
        evidence: Of a drift of the suspicion: what has become of a stake of 1 that was bet on one. Without a drift it ever reaches
            1 / alpha with probability alpha. A float, infinite where it is too large for one.
        ks, ks_p: Kolmogorov-Smirnov distance of the last 1,000 suspicions from the reference, and its p-value. That is for one
            look alone; who looks often finds a small one. NaN before the first sample.
        alarms: Test -> number of samples after which it rang: "drift", "rejected", or a reason that has a limit.
    """

    samples: int
    rejected: int
    rate: float
    interval: tuple[float, float]
    reasons: dict[str, tuple[int, float, tuple[float, float]]]
    expected: float
    evidence: float
    ks: float
    ks_p: float
    alarms: dict[str, int]


class Monitor:
    """Watches what a defended model says in service: how much it rejects, why, and whether its suspicion has drifted.

    All tests may be looked at after every sample, for ever. Without a drift the probability that any of them ever rings is at most
    `alpha`: half of it is for the drift test, the rest is shared by those of the rates. `tfdefense/monitoring/sequential.py` has
    the theorems. Samples must be independent, such as one frame of each video, and in the order in which they came: a folder that
    is sorted by class is one drift after the other. Memory does not grow.

    Args:
        reference: What `td.monitoring.reference` gave or wrote, or what `save` wrote: it then goes on from there.
        alpha: Probability that it ever gives a false alarm.
        limits: Share of all samples, for reasons that set off an alarm above it, such as `{"invalid input": 0.01}`. By default
            there are none: held-out samples do not say how often a camera breaks.
        seed: Of the random numbers by which equal suspicions are ranked.

    Example:

    >>> watching = Monitor(td.monitoring.reference(defended, x_held_out[:300]))
    >>> status = watching.update(defended(x_held_out[300:])["suspicion"])
    >>> status.samples, status.alarms
    (97, {})
    """

    def __init__(
        self,
        reference: PathLike | dict[str, Any],
        *,
        alpha: float | None = None,
        limits: Mapping[str, float] | None = None,
        seed: int = 0,
    ):
        self.reference = checked_reference(reference)
        state = self.reference.get("state") or {}
        alpha = state.get("alpha", 0.05) if alpha is None else alpha
        limits = state.get("limits", {}) if limits is None else dict(limits)
        check_number("alpha", alpha, above=True)
        if alpha >= 1:
            raise ValueError(f"`alpha` must be a probability below 1, such as 0.05. Received: {alpha!r}.")
        for name, limit in limits.items():
            if name not in ALL_REASONS[1:]:
                raise ValueError(f"`limits` must be of reasons: {', '.join(ALL_REASONS[1:])}. Received: {name!r}.")
            check_number(f"limit of {name}", limit)
        if state and (alpha, limits) != (state["alpha"], state["limits"]):
            raise ValueError("A monitor that goes on keeps its `alpha` and `limits`. Begin anew from the reference to change them.")
        self.alpha, self.limits, self.seed = float(alpha), limits, int(state.get("seed", seed))
        self._edges = np.asarray(self.reference["edges"], "float64")
        self._kept = np.asarray(self.reference["suspicion"], "float64")
        self.expected = self._highest_rate()
        self._counts = np.array(state.get("reasons", [0] * len(ALL_REASONS)), "int64")
        self._test = Exchangeability.of_state(state["test"]) if state else Exchangeability(np.asarray(self.reference["pool"]))
        self._evidence = float(state.get("evidence", 0.0))
        self._window = np.asarray(state.get("window", []), "float64")
        self.history: list[list[float]] = [list(row) for row in state.get("history", [])]
        self.alarms: dict[str, int] = dict(state.get("alarms", {}))
        self._tables: list[str] = list(state.get("tables", []))

    def _share(self):
        """The part of alpha that each test of a rate has."""
        return self.alpha / 2 / (1 + len(self.limits))

    def _highest_rate(self):
        """An upper bound of the true rejection rate at calibration, by the exact binomial test of Clopper and Pearson.

        One threshold that was set on these very samples has at most a rate of that distribution, Beta(k + 1, n - k). Of several
        that were set together it is an approximation.
        """
        from scipy.stats import beta

        samples, rejected = self.reference["samples"], self.reference["rejected"]
        return 1.0 if rejected == samples else float(beta.ppf(1 - self._share() / 2, rejected + 1, samples - rejected))

    def update(self, suspicion: ArrayLike, reason: ArrayLike | None = None) -> Status:
        """Takes what a model said of some samples, in their order.

        Args:
            suspicion: Suspicion of each, +inf where the model could not judge it.
            reason: Why each was accepted or rejected, as places in `td.prediction.REASONS`, such as the output `reason` of an
                exported model. Without it a suspicion of +inf is taken for an invalid input.

        Returns:
            A `Status`.
        """
        suspicion = np.asarray(suspicion)
        suspicion = check_numbers(suspicion, "suspicion") if suspicion.size else np.zeros(0)
        if reason is None:
            reason = np.where(np.isposinf(suspicion), INVALID, suspicion > 0).astype(int)
        reason = np.asarray(reason)
        check_same_length(suspicion=suspicion, reason=reason)
        if reason.size and not (reason.dtype.kind in "iu" and 0 <= reason.min() <= reason.max() <= UNREADABLE):
            raise ValueError(f"`reason` must be whole numbers from 0 to {UNREADABLE}, places in `td.prediction.REASONS`.")
        before = int(self._counts.sum())
        self._counts += np.bincount(reason.astype(int), minlength=len(ALL_REASONS))
        judged = (reason <= SUSPICIOUS) & np.isfinite(suspicion)
        self._watch(suspicion[judged], before + 1 + np.flatnonzero(judged))
        self._window = np.concatenate([self._window, suspicion[judged]])[-WINDOW:]
        status = self._look()
        if len(suspicion):
            self.history.append([status.samples, status.rate, *status.interval, self._evidence / math.log(10)])
            if len(self.history) > _HISTORY:
                # The last stays.
                del self.history[-2::-2]
        return status

    def read(self, table: PathLike) -> bool:
        """Takes a table of `tfdefense predict`, or leaves it out where it has taken one of the same content before.

        The last 10,000 are remembered, also in what `save` writes.

        Returns:
            Whether it was taken.
        """
        from tfdefense._tables import read_table
        from tfdefense._untrusted import check_file

        with open(check_file(table), "rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        if content in self._tables:
            return False
        for suspicion, reason in read_table(table):
            self.update(suspicion, reason)
        self._tables = [*self._tables, content][-_TABLES:]
        return True

    def _watch(self, suspicion, numbers):
        if not len(suspicion):
            return
        # Of one seed, and yet others after each update, wherever the monitor was saved in between.
        uniform = 1 - np.random.default_rng([self.seed, self._test.seen]).random(len(suspicion))
        found = self._test.update(np.searchsorted(self._edges, suspicion), uniform)[0]
        self._evidence = float(found[-1])
        rung = np.flatnonzero(found >= math.log(2 / self.alpha))
        if len(rung):
            self.alarms.setdefault("drift", int(numbers[rung[0]]))

    @property
    def status(self) -> Status:
        """What it has found so far."""
        return self._look()

    def _look(self) -> Status:
        samples, share = int(self._counts.sum()), self._share()
        rejected = samples - int(self._counts[0])
        # Half of the part is for what the held-out samples may mislead about.
        if is_above(rejected, samples, self.expected, share / 2):
            self.alarms.setdefault("rejected", samples)
        for name, limit in self.limits.items():
            if is_above(self._counts[ALL_REASONS.index(name)], samples, limit, share):
                self.alarms.setdefault(name, samples)
        reasons = {
            name: (int(count), int(count) / max(1, samples), confidence_sequence(int(count), samples, 0.05))
            for name, count in zip(ALL_REASONS[1:], self._counts[1:], strict=True)
        }
        interval = confidence_sequence(rejected, samples, 0.05)
        evidence = math.exp(self._evidence) if self._evidence < 700 else math.inf
        rate, (ks, ks_p) = rejected / max(1, samples), self._distance()
        return Status(samples, rejected, rate, interval, reasons, self.expected, evidence, ks, ks_p, dict(self.alarms))

    def _distance(self):
        if not len(self._window):
            return math.nan, math.nan
        from scipy.stats import ks_2samp

        found = ks_2samp(self._kept, self._window, method="asymp")
        return float(found.statistic), float(found.pvalue)

    def summary(self) -> str:
        """A few lines to print."""
        status = self.status
        low, high = status.interval
        about = self.reference
        lines = [
            f"{status.samples:,} samples, {status.rate:.2%} rejected (95 % interval {low:.2%} to {high:.2%}); at calibration "
            f"{about['rejected'] / about['samples']:.2%} of {about['samples']:,}, at most {status.expected:.2%} expected"
        ]
        for name, (count, share, (least, most)) in status.reasons.items():
            if count:
                lines.append(f"  {name:<14}{count:>9,}  {share:.2%} ({least:.2%} to {most:.2%})")
        lines.append(
            f"drift of the suspicion: evidence {status.evidence:.3g}, an alarm at {2 / self.alpha:g}; "
            f"Kolmogorov-Smirnov distance of the last {len(self._window):,}: {status.ks:.3f} (p = {status.ks_p:.2g}, for one look)"
        )
        alarms = ", ".join(f"{name} (after {count:,} samples)" for name, count in status.alarms.items())
        lines.append(f"ALARM: {alarms}" if alarms else f"no alarm; the chance of a false one, ever, is at most {self.alpha:.0%}")
        return "\n".join(lines)

    def prometheus(self, **labels: str) -> str:
        """The numbers in Prometheus's text format, each with these labels, such as `model="digits"`."""
        from tfdefense.monitoring.prometheus import text

        return text(self.status, labels, [*self.limits, "drift", "rejected"])

    def plot(self, path: PathLike | None = None) -> Any:
        """A figure of the rejection rate and of the evidence; see `td.plots.monitor`."""
        from tfdefense import plots

        return plots.monitor(self, path)

    def save(self, path: PathLike) -> None:
        """Writes the reference and all that was seen: `Monitor(path)` goes on from there."""
        state = {
            "alpha": self.alpha,
            "limits": self.limits,
            "seed": self.seed,
            "reasons": self._counts.tolist(),
            "test": self._test.state(),
            "evidence": self._evidence,
            "window": self._window.tolist(),
            "history": self.history,
            "alarms": self.alarms,
            "tables": self._tables,
        }
        write_text(path, json.dumps(self.reference | {"state": state}))
