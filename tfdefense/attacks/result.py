"""What an attack gives back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AttackResult:
    """What an attack found, one entry a sample.

    Attributes:
        x_adv: The adversarial samples, in the bounds, and in the ball where the attack has one.
        success: Misclassified and not rejected; targeted: classified as the target.
        distance: From the clean sample, in `norm`. 0 where the clean sample was misclassified already and left alone.
        steps: Iterations spent.
        label: What the model says of `x_adv`; -1 = rejected.
        zero_gradient: Whether the gradient was all zeros at some step before success.
        norm: "linf", "l2" or "l1".
    """

    x_adv: np.ndarray
    success: np.ndarray
    distance: np.ndarray
    steps: np.ndarray
    label: np.ndarray
    zero_gradient: np.ndarray
    norm: str

    def __len__(self):
        return len(self.x_adv)

    def __repr__(self):
        mean = f"{self.distance[self.success].mean():.4g}" if self.success.any() else "-"
        return (
            f"AttackResult({len(self)} samples: {self.success.mean():.1%} succeeded at mean {self.norm} {mean}, "
            f"{self.steps.mean():.1f} steps, {self.zero_gradient.mean():.1%} with an all-zero gradient)"
        )

    def stronger(self, other: AttackResult) -> AttackResult:
        """Of two results on the same samples the stronger for each: success first, then the smaller distance."""
        if self.norm != other.norm:
            raise ValueError(f"Expected results in one norm to compare. Received '{self.norm}' and '{other.norm}'.")
        return self.with_rows(self.beaten_by(other), other)

    def beaten_by(self, other: AttackResult) -> np.ndarray:
        return other.success & (~self.success | (other.distance < self.distance))

    def with_rows(self, rows: np.ndarray, other: AttackResult) -> AttackResult:
        """This result with those rows of the other; the work of both counts."""
        picked = {}
        for name in ("x_adv", "success", "distance", "label"):
            mine, theirs = getattr(self, name), getattr(other, name)
            picked[name] = np.where(rows.reshape((-1,) + (1,) * (mine.ndim - 1)), theirs, mine)
        steps, zeros = self.steps + other.steps, self.zero_gradient | other.zero_gradient
        return AttackResult(**picked, steps=steps, zero_gradient=zeros, norm=self.norm)

    def parts(self, size: int) -> list[AttackResult]:
        """This result in pieces of so many samples each."""
        return [
            AttackResult(**{field.name: getattr(self, field.name)[i : i + size] for field in ARRAYS}, norm=self.norm)
            for i in range(0, len(self), size)
        ]

    def spread(self, rows: np.ndarray, like: AttackResult) -> AttackResult:
        """This result on some rows as one on all of `like`; the other rows have no success and cost nothing."""
        arrays = {}
        for field in ARRAYS:
            array = np.zeros_like(getattr(like, field.name))
            array[rows] = getattr(self, field.name)
            arrays[field.name] = array
        return AttackResult(**arrays, norm=self.norm)


ARRAYS = [field for field in dataclasses.fields(AttackResult) if field.name != "norm"]


def arrays_of(result: AttackResult) -> dict[str, np.ndarray]:
    """The arrays of a result by name."""
    return {field.name: getattr(result, field.name) for field in ARRAYS}
