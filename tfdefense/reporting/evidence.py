"""What is known against a model: of everything that any attack has found, the nearest example that evades, for each sample."""

import numpy as np

from tfdefense.attacks.norms import NORMS, within


class Evidence:
    """Grows with every attack, whatever its norm: an example found in one ball lies at some distance in every other norm.

    Attributes:
        nearest: For each norm the distance of the nearest example, +inf where none is known, 0 where the clean sample is
            misclassified and not rejected already.
        example: For each norm that example; the clean sample where none is known.
        finder: For each norm the number of the attack that found it, -1 where none is known.
        attempts: For a norm and a size the last perturbed sample in that ball, whether it evades or not.
    """

    def __init__(self, x, wrong, norms):
        self.x = x
        self.nearest = {norm: np.where(wrong, 0.0, np.inf) for norm in norms}
        self.example = {norm: x.copy() for norm in norms}
        self.finder = {norm: np.full(len(x), -1) for norm in norms}
        self.attempts = {}

    def distance(self, norm, x_adv, rows=slice(None)):
        return NORMS[norm].distance((x_adv.astype("float64") - self.x[rows]).reshape(len(x_adv), -1))

    def attempt(self, norm, size, x_adv, rows=slice(None)):
        """Stores what a search in a ball ended with, on all samples or on those of `rows`."""
        self.attempts.setdefault((norm, size), self.x.copy())[rows] = x_adv

    def add(self, x_adv, evades, number=-1, rows=None):
        """Takes in what one attack found on all samples, or on those of `rows`."""
        rows = np.arange(len(self.x)) if rows is None else rows
        for norm, nearest in self.nearest.items():
            distance = self.distance(norm, x_adv, rows)
            closer = evades & (distance < nearest[rows])
            nearest[rows[closer]] = distance[closer]
            self.example[norm][rows[closer]] = x_adv[closer]
            self.finder[norm][rows[closer]] = number

    def succeeded(self, norm, size):
        """Whether an adversarial example within that size is known, for each sample."""
        return within(self.nearest[norm], size)

    def robust_accuracy(self, norm, size):
        """Share of samples without."""
        return float(1 - self.succeeded(norm, size).mean())

    def worst(self, norm, size):
        """The nearest example where it lies within the size, else what was last tried there, for each sample."""
        chosen = self.succeeded(norm, size).reshape((-1,) + (1,) * (self.x.ndim - 1))
        return np.where(chosen, self.example[norm], self.attempts.get((norm, size), self.x))
