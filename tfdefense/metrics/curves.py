"""Security evaluation curves: what is left of a model as the attacker's budget grows."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, check_labels, check_numbers, check_same_length

from .outcomes import Outcomes, evaluate


@dataclass(frozen=True, eq=False, repr=False)
class SecurityCurve:
    """Accuracy, rejection and error against the size of the perturbation, over one or more runs.

    At size 0 accuracy counts the samples given their class; above 0 also the rejected ones, because rejecting a
    perturbed sample is right. So a model that rejects clean samples may gain at the first step.

    Attributes:
        sizes: Increasing sizes of shape (s,).
        accuracies, rejections, errors: Shares of shape (runs, s).
        outcomes: `outcomes[run][size]`, an `Outcomes` each; empty where a curve was made of shares alone.
    """

    sizes: np.ndarray
    accuracies: np.ndarray
    rejections: np.ndarray
    errors: np.ndarray
    outcomes: tuple = ()

    def __post_init__(self):
        object.__setattr__(self, "sizes", _sizes(self.sizes))
        for name in ("accuracies", "rejections", "errors"):
            shares = check_numbers(getattr(self, name), name, ndim=2)
            if shares.shape[1] != len(self.sizes) or shares.min() < 0 or shares.max() > 1:
                raise ValueError(
                    f"`{name}` must be shares in (0, 1) of shape (runs, {len(self.sizes)}). Received shape "
                    f"{shares.shape}, values in [{shares.min():g}, {shares.max():g}]. Divide percentages by 100."
                )
            object.__setattr__(self, name, shares)
        check_same_length(accuracies=self.accuracies, rejections=self.rejections, errors=self.errors)

    @classmethod
    def of(cls, sizes: ArrayLike, runs: Sequence[Sequence[Outcomes]]) -> SecurityCurve:
        """A curve from `runs[run][size]`, an `Outcomes` each."""
        sizes, runs = _sizes(sizes), tuple(tuple(run) for run in runs)
        if not runs or any(len(run) != len(sizes) for run in runs):
            raise ValueError(
                f"`runs` must hold {len(sizes)} outcomes a run, one a size. "
                f"Received {[len(run) for run in runs]}. Evaluate every size in every run."
            )
        accuracies = [[_accuracy(o, size) for o, size in zip(run, sizes, strict=True)] for run in runs]
        rejections, errors = ([[getattr(o, name) for o in run] for run in runs] for name in ("rejection", "error"))
        return cls(sizes, np.array(accuracies), np.array(rejections), np.array(errors), runs)

    @classmethod
    def join(cls, curves: Sequence[SecurityCurve]) -> SecurityCurve:
        """One curve from the runs of several, such as those of models trained on different splits."""
        curves = list(curves)
        if not curves or any(not np.array_equal(c.sizes, curves[0].sizes) for c in curves):
            raise ValueError(
                "`curves` must be at least one curve, all at the same sizes. Received sizes "
                f"{[c.sizes.tolist() for c in curves]}. Evaluate each at the same sizes."
            )
        stacked = {k: np.concatenate([getattr(c, k) for c in curves]) for k in ("accuracies", "rejections", "errors")}
        whole = all(c.outcomes for c in curves)
        return cls(curves[0].sizes, **stacked, outcomes=sum((c.outcomes for c in curves), ()) if whole else ())

    @property
    def accuracy(self) -> np.ndarray:
        """Mean accuracy over the runs, for each size."""
        return self.accuracies.mean(axis=0)

    @property
    def rejection(self) -> np.ndarray:
        """Mean share of rejected samples over the runs, for each size."""
        return self.rejections.mean(axis=0)

    @property
    def error(self) -> np.ndarray:
        """Mean share of samples given another class over the runs, for each size."""
        return self.errors.mean(axis=0)

    @property
    def deviation(self) -> np.ndarray:
        """Standard deviation of the accuracy over the runs, for each size; 0 for one run."""
        return _deviation(self.accuracies)

    @property
    def rejection_deviation(self) -> np.ndarray:
        """Standard deviation of the rejection over the runs, for each size; 0 for one run."""
        return _deviation(self.rejections)

    @property
    def error_deviation(self) -> np.ndarray:
        """Standard deviation of the error over the runs, for each size; 0 for one run."""
        return _deviation(self.errors)

    def fell_to_zero(self, below: float = 0.1) -> bool:
        """Whether accuracy ends under `below`. If not, the sizes were too small or the attack failed: claim nothing."""
        return bool(self.sizes[-1] > 0 and self.accuracy[-1] < below)

    def to_series(self, row: str, what: str, of: str = "accuracy") -> dict[str, Any]:
        """The curve as a `series` entry of a results file; `of` is "accuracy", "rejection" or "error"."""
        deviations = {"accuracy": self.deviation, "rejection": self.rejection_deviation, "error": self.error_deviation}
        if of not in deviations:
            raise ValueError(f"`of` must be one of {', '.join(deviations)}. Received {of!r}. Pass of='accuracy'.")
        y, deviation = getattr(self, of), deviations[of]
        return {"row": row, "what": what, "x": self.sizes.tolist(), "y": y.tolist(), "deviation": deviation.tolist()}

    def __repr__(self):
        pairs = zip(self.sizes, self.accuracy, strict=True)
        points = ", ".join(f"{size:g}: {100 * share:.1f} %" for size, share in pairs)
        return f"SecurityCurve({len(self.accuracies)} run(s), accuracy {points})"


def security_curve(
    model: AnyModel,
    attack_factory: Callable[[float, int], Callable[..., Any]],
    x: ArrayLike,
    y: ArrayLike,
    sizes: ArrayLike,
    *,
    seeds: Sequence[int] = (0,),
    batch_size: int = 256,
    cumulative: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SecurityCurve:
    """Attacks a model with growing budgets.

    Args:
        model: A defended model or a plain classifier.
        attack_factory: `attack_factory(size, seed)` gives an attack, called as `attack(model, x, y)`.
        x, y: Clean samples and their classes.
        sizes: Increasing sizes of the perturbation; 0 means the clean samples, without an attack.
        seeds: One run for each.
        batch_size: Samples a step of the evaluation.
        cumulative: A sample broken at a smaller size stays broken at a larger one. Sound, because the larger ball
            holds the smaller: an attack that finds nothing there although it has found something before is a weak
            search, not a strong model; so an attack of this library is spared it there. Turn it off to look at the search itself.
        progress: Called as `progress(done, total)` after each size of each run.

    Example:

    >>> import types
    >>> import keras
    >>> import numpy as np
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    >>> def push(size, seed):
    ...     return lambda model, x, y: types.SimpleNamespace(x_adv=x + size * (1 - 2 * np.eye(2)[y]))
    >>> security_curve(model, push, np.array([[1.0, 0.0], [0.0, 3.0]]), [0, 1], sizes=[0, 1, 2])
    SecurityCurve(1 run(s), accuracy 0: 100.0 %, 1: 50.0 %, 2: 0.0 %)
    """
    sizes, y, seeds = _sizes(sizes), check_labels(y), tuple(seeds)
    check_same_length(x=x, y=y)
    if not seeds:
        raise ValueError("`seeds` must hold at least one seed. Received none. Pass seeds=(0,).")
    clean = evaluate(model, x, y, batch_size=batch_size, adversarial=False) if sizes[0] == 0 else None
    runs = []
    for seed in seeds:
        run = []
        for size in sizes.tolist():
            if size == 0 and clean is not None:
                outcomes = clean
            else:
                result = _attacked(attack_factory(size, seed), model, x, y, ~run[-1].wrong if cumulative and run else None)
                outcomes = evaluate(model, result, y, batch_size=batch_size, adversarial=True)
            run.append(_carry(run[-1], outcomes) if cumulative and run else outcomes)
            if progress is not None:
                progress(len(runs) * len(sizes) + len(run), len(seeds) * len(sizes))
        runs.append(run)
    return SecurityCurve.of(sizes, runs)


@dataclass(frozen=True, eq=False, repr=False)
class WorstCaseCurve:
    """Which samples are broken within each size: misclassified and not rejected.

    Attributes:
        sizes: Increasing sizes of shape (s,).
        broken: Booleans of shape (s, samples).
        found_by: For each the name of the attack that broke it first, "clean" and "" as in `WorstCaseResult`; "known" of what was
            known before.
    """

    sizes: np.ndarray
    broken: np.ndarray
    found_by: np.ndarray

    @property
    def robust_accuracy(self) -> np.ndarray:
        """Share of samples right or rejected, for each size."""
        return 1 - self.broken.mean(axis=1)

    @classmethod
    def of(cls, result: Any, sizes: ArrayLike) -> WorstCaseCurve:
        """The whole curve from one result of an attack for the smallest change, such as `td.attacks.MinimumNorm`.

        Of an attack inside a ball it tells of no size but that of the ball. `worst_case_curve(..., known=curve.broken)` spares
        other attacks at each size what is broken here.

        Args:
            result: An `AttackResult`, or what `WorstCase` gives, which names the attacks.
            sizes: Increasing sizes.

        Example:

        >>> result = td.attacks.MinimumNorm("l2", steps=20)(model, x, y)  # doctest: +SKIP
        >>> WorstCaseCurve.of(result, [0.5, 1, 2]).robust_accuracy  # doctest: +SKIP
        array([0.875, 0.5  , 0.   ])
        """
        sizes = _sizes(sizes)
        # As in `td.attacks.WorstCase`: float32 gives 0.10000002 for 0.1.
        broken = result.success & (result.distance <= sizes[:, None] * (1 + 1e-5) + 1e-7)
        named = np.where(result.success & (result.distance == 0), "clean", "attack")
        return cls(sizes, broken, np.where(broken, getattr(result, "found_by", named), ""))


def worst_case_curve(
    model: AnyModel,
    attack_at: Callable[[float], Callable[..., Any]],
    x: ArrayLike,
    y: ArrayLike,
    sizes: ArrayLike,
    *,
    known: ArrayLike | None = None,
    **options: Any,
) -> WorstCaseCurve:
    """The worst case over attacks for each sample, at growing sizes: a sample that is broken within one is within each larger.

    Where a `security_curve` holds shares of right and rejected samples, this one holds the samples, and which attack broke them.

    Args:
        model: A defended model or a plain classifier.
        x, y: Samples and their classes.
        attack_at: `attack_at(size)` gives an attack, such as a `WorstCase` or that of a suite.
        sizes: Increasing sizes above 0.
        known: Booleans of shape (s, samples): what other attacks have broken within each size counts, and is spared.
        options: Of the attack's call.

    Example: the samples broken from any start go on from those broken from the sample alone.

    >>> suite = td.attacks.suites.get("quick-1")
    >>> def attack_at(size):
    ...     return suite.worst_case(suite.situation(defended, (x, y), "linf", size, steps=5))
    >>> curve = worst_case_curve(defended, attack_at, x, y, [0.1, 0.2])  # doctest: +SKIP
    >>> curve.robust_accuracy  # doctest: +SKIP
    array([0.75 , 0.125])
    """
    sizes, y = _sizes(sizes), check_labels(y)
    check_same_length(x=x, y=y)
    known = np.zeros((len(sizes), len(y)), bool) if known is None else np.asarray(known, bool)
    if known.shape != (len(sizes), len(y)) or sizes[0] == 0:
        raise ValueError(
            f"`sizes` must be above 0, and `known` of shape ({len(sizes)}, {len(y)}), one row a size. Received sizes "
            f"{sizes.tolist()} and shape {known.shape}."
        )
    broken, found_by = np.zeros(len(y), bool), np.full(len(y), "", object)
    rows = []
    for size, before in zip(sizes.tolist(), known, strict=True):
        found_by[before & ~broken] = "known"
        broken = broken | before
        if not broken.all():
            result = attack_at(size)(model, x, y, only=~broken, **options)
            new = result.success & ~broken
            found_by[new] = getattr(result, "found_by", np.full(len(y), "attack"))[new]
            broken = broken | new
        rows.append((broken, found_by.astype(str)))
    return WorstCaseCurve(sizes, *map(np.array, zip(*rows, strict=True)))


def _attacked(attack, model, x, y, waiting):
    """Attacks those that still wait, where the attack takes `only`; the others keep what was found before in any case."""
    spared = waiting is not None and not waiting.all() and "only" in inspect.signature(attack).parameters
    return attack(model, x, y, only=waiting) if spared else attack(model, x, y)


def _carry(before, now):
    """Samples broken before keep all of their smaller perturbation, so that label and suspicion still agree."""
    merged = {}
    for name in ("right", "rejected", "wrong", "label", "suspicion", "guess"):
        old, new = getattr(before, name), getattr(now, name)
        merged[name] = None if new is None else np.where(before.wrong, old, new)
    return replace(now, **merged)


def _accuracy(outcomes: Outcomes, size):
    return outcomes.accuracy if size == 0 else outcomes.robust_accuracy


def _deviation(shares):
    return shares.std(axis=0, ddof=1) if len(shares) > 1 else np.zeros(shares.shape[1])


def _sizes(sizes):
    sizes = check_numbers(sizes, "sizes")
    if not np.isfinite(sizes).all() or sizes[0] < 0 or (np.diff(sizes) <= 0).any():
        raise ValueError(
            f"`sizes` must be finite, from 0 up and strictly increasing. Received {sizes.tolist()}. "
            "Sort them and leave out what comes twice."
        )
    return sizes
