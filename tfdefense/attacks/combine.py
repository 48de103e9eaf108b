"""Attacks made of attacks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Bounds, Tensor, check_labels
from tfdefense.attacks.arguments import check, check_only
from tfdefense.attacks.base import Attack, AttackResult, Batch
from tfdefense.attacks.norms import within
from tfdefense.attacks.on_ray import workers
from tfdefense.view import View


@dataclass(frozen=True)
class WorstCaseResult(AttackResult):
    """What several attacks found together.

    Attributes:
        found_by: The name of the attack whose result each sample has; "" where none broke it, "clean" where it was misclassified
            without any.
    """

    found_by: np.ndarray


@dataclass(frozen=True)
class WorstCase:
    """The worst case over attacks: runs them in turn and keeps for each sample the strongest result.

    A success comes first, then the smallest distance. A sample that all leave right or rejected has survived.

    Args:
        attacks: The attacks, all with one norm: a list, or a dict by name.
        until_success: Spare a sample the later attacks once one has broken it; the distance is then not the smallest.
        within: A size beyond which a success is none, for attacks that look for the smallest change.

    Example:

    >>> both = WorstCase([FGSM(0.2), PGD(0.2, objective=Margin())])
    >>> bool(both(model, x, y).success.sum() >= FGSM(0.2)(model, x, y).success.sum())
    True
    """

    attacks: list | dict
    until_success: bool = False
    within: float | None = None

    def __post_init__(self):
        if not self.attacks:
            raise ValueError("Expected at least one attack. Received none.")
        norms = {attack.norm for attack in self.named.values()}
        if len(norms) > 1:
            raise ValueError(f"Expected attacks in one norm, whose distances compare. Received norms {sorted(norms)}.")

    @property
    def named(self) -> dict[str, Any]:
        """The attacks by name; those of a list have their numbers."""
        return self.attacks if isinstance(self.attacks, dict) else {str(i): attack for i, attack in enumerate(self.attacks)}

    @property
    def norm(self) -> str:
        return next(iter(self.named.values())).norm

    def __call__(
        self,
        model: AnyModel,
        x: np.ndarray | Sequence[Any],
        y: ArrayLike,
        target: ArrayLike | str | None = None,
        *,
        only: ArrayLike | None = None,
        after: AttackResult | None = None,
        ray: Any = None,
        **options: Any,
    ) -> WorstCaseResult:
        """As of any attack; with `after`, a result of earlier attacks on these samples, the others go on from that."""
        if isinstance(ray, str):
            # The same workers for all of them.
            with workers(ray) as found:
                return self(model, x, y, target, only=only, after=after, ray=found, **options)
        options |= {} if ray is None else {"ray": ray}
        best, only = after, check_only(only, len(x))
        found_by: Any = None if after is None else getattr(after, "found_by", np.where(after.success, "before", "")).astype(object)
        for name, attack in self.named.items():
            waiting = only
            if best is not None and self.until_success:
                waiting = ~best.success if only is None else ~best.success & only
                if not waiting.any():
                    break
            result = attack(model, x, y, target, only=waiting, **options)
            if self.within is not None:
                result = dataclasses.replace(result, success=result.success & within(result.distance, self.within))
            if best is None:
                best, found_by = result, np.where(result.success, name, "").astype(object)
                found_by[result.success & (result.distance == 0)] = "clean"
            else:
                found_by[best.beaten_by(result)] = name
                best = best.stronger(result)
        arrays = {field.name: getattr(best, field.name) for field in dataclasses.fields(AttackResult)}
        return WorstCaseResult(**arrays, found_by=found_by.astype(str))


@dataclass(frozen=True)
class Transfer:
    """Crafts samples on one model and judges them on another.

    Args:
        attack: The attack that crafts the samples.
        source: The model it crafts on; None means the undefended model inside the defended one: an oblivious
            attacker.

    Example:

    >>> oblivious = Transfer(PGD(0.2))
    """

    attack: Attack
    source: object = field(default=None, compare=False)

    @property
    def norm(self) -> str:
        return self.attack.norm

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The attack's own form for use inside a training step, on the source."""
        if not hasattr(self.attack, "online"):
            raise ValueError(
                f"In training a transferred attack must be a single one. Received Transfer({type(self.attack).__name__}). "
                "Give a list: `[Transfer(one), Transfer(other)]`, of which each sample gets one."
            )
        return self.attack.online(view.beside(self.source))

    def __call__(
        self,
        model: AnyModel,
        x: ArrayLike,
        y: ArrayLike,
        target: ArrayLike | None = None,
        *,
        only: ArrayLike | None = None,
        regardless: bool = True,
        bounds: Bounds = None,
        batch_size: int = 128,
        **options: Any,
    ) -> AttackResult:
        """As of any attack; `regardless` of what the source has wrong already, which may be right on this model."""
        view, clean, labels = check(model, x, y, bounds)
        source = view.beside(self.source)
        if isinstance(target, str):
            raise ValueError("A transfer has two models that could name the target. Pass the target classes as an array.")
        options |= {"only": only, "regardless": regardless, "batch_size": batch_size}
        crafted = self.attack(source, clean, labels, target, **options)
        aim = None
        if target is not None:
            aim = check_labels(target, "target", samples=len(clean), classes=view.classes).astype("int32")
        batch = Batch(view, clean, labels, aim, aim is not None, (1.0, 1.0), (), np.arange(len(clean)))
        parts = [view.run(crafted.x_adv[i : i + batch_size])[2].numpy() for i in range(0, len(clean), batch_size)]
        label = np.concatenate(parts)
        success = batch.succeeded(label) if only is None else batch.succeeded(label) & only
        return AttackResult(crafted.x_adv, success, crafted.distance, crafted.steps, label, crafted.zero_gradient, self.norm)
