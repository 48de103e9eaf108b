"""Attacks made of attacks."""

from dataclasses import dataclass, field

import numpy as np

from tfdefense._validation import check_labels
from tfdefense.attacks.arguments import check, check_only
from tfdefense.attacks.base import Attack, AttackResult, Batch


@dataclass(frozen=True)
class Strongest:
    """Runs several attacks and keeps the strongest result of each sample: success first, then the smallest distance.

    Args:
        attacks: The attacks, all with one norm.
        until_success: Spare a sample the later attacks once it is taken; the distance is then not the smallest.

    Example:

    >>> both = Strongest([FGSM(0.2), PGD(0.2, objective=Margin())])
    >>> bool(both(model, x, y).success.sum() >= FGSM(0.2)(model, x, y).success.sum())
    True
    """

    attacks: list
    until_success: bool = False

    def __post_init__(self):
        if not self.attacks:
            raise ValueError("Expected at least one attack. Received an empty list.")
        norms = {attack.norm for attack in self.attacks}
        if len(norms) > 1:
            raise ValueError(f"Expected attacks in one norm, whose distances compare. Received norms {sorted(norms)}.")

    @property
    def norm(self):
        return self.attacks[0].norm

    def __call__(self, model, x, y, target=None, *, only=None, **options):
        best, waiting = None, check_only(only, len(x))
        for attack in self.attacks:
            if best is not None and self.until_success:
                waiting = ~best.success if only is None else ~best.success & only
                if not waiting.any():
                    break
            result = attack(model, x, y, target, only=waiting, **options)
            best = result if best is None else best.stronger(result)
        return best


@dataclass(frozen=True)
class Transfer:
    """Crafts samples on one model and judges them on another.

    Args:
        attack: What crafts.
        source: The model it crafts on; None means the undefended model inside the defended one: an attacker who does
            not know of the defense.

    Example:

    >>> unaware = Transfer(PGD(0.2))
    """

    attack: Attack
    source: object = field(default=None, compare=False)

    @property
    def norm(self):
        return self.attack.norm

    def online(self, view):
        """The attack's own form for use inside a training step, on the source."""
        if not hasattr(self.attack, "online"):
            raise ValueError(
                f"In training a transferred attack must be a single one. Received Transfer({type(self.attack).__name__}). "
                "Give a list: `[Transfer(one), Transfer(other)]`, of which each sample gets one."
            )
        return self.attack.online(view.beside(self.source))

    def __call__(self, model, x, y, target=None, *, only=None, regardless=True, bounds=None, batch_size=128, **options):
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
        batch = Batch(view, clean, labels, aim, aim is not None, (1.0, 1.0), None, np.arange(len(clean)))
        parts = [view.run(crafted.x_adv[i : i + batch_size])[2].numpy() for i in range(0, len(clean), batch_size)]
        label = np.concatenate(parts)
        success = batch.fooled(label) if only is None else batch.fooled(label) & only
        return AttackResult(crafted.x_adv, success, crafted.distance, crafted.steps, label, crafted.zero_gradient, self.norm)
