"""What `load` gives, and fair ways to take a part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfdefense._validation import listed, numbered


# eq=False: comparing arrays field by field has no single truth value.
@dataclass(frozen=True, eq=False, repr=False)
class Images:
    """Images with their classes.

    Args:
        x: Images, (N, H, W, C), float32 in [0, 1] or uint8.
        y: Classes, int32, (N,).
        classes: Names of the classes; empty where `y` is no class but an index.
        name: Name of the set, or the path it was read from.
        split: `"train"`, `"test"` or `"all"`.
        bounds: Smallest and largest value that `x` may have: `(0.0, 1.0)` or `(0, 255)`.

    Example:

    >>> images = Images(np.zeros((4, 8, 8, 1), "uint8"), np.array([0, 0, 1, 1]), ("cat", "dog"), "pets", "all", (0, 255))
    >>> images.take(images.y == 1).x.shape, images.moved((0, 1)).bounds
    ((2, 8, 8, 1), (0, 1))
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    name: str
    split: str
    bounds: tuple[float, float]

    def __len__(self):
        return len(self.x)

    def __repr__(self):
        low, high = self.bounds
        shape = "x".join(str(side) for side in self.x.shape[1:])
        text = f"Images({self.name!r}, split={self.split!r}, {len(self)} of {shape}, {self.x.dtype} in [{low}, {high}]"
        if not self.classes:
            return text + ", no classes)"
        return f"{text}, {len(self.classes)} classes: {listed(self.classes)})"

    def take(self, indices: Sequence[int] | np.ndarray | slice) -> Images:
        """The images at `indices` (integers, a slice or a boolean mask), in that order."""
        return replace(self, x=self.x[indices], y=self.y[indices])

    def numbered(self, classes: Sequence[str]) -> Images:
        """The same images with their classes numbered by these names, such as `td.contract.class_names(model)`."""
        if not self.classes:
            return self
        return replace(self, y=numbered(self.y, self.classes, tuple(classes), self.name), classes=tuple(classes))

    def moved(self, bounds: tuple[float, float]) -> Images:
        """The same images with their values moved into other bounds, as float32."""
        (low, high), (new_low, new_high) = self.bounds, bounds
        if tuple(self.bounds) == tuple(bounds):
            return self
        x = (self.x.astype("float32") - low) / (high - low) * (new_high - new_low) + new_low
        return replace(self, x=x.astype("float32"), bounds=(new_low, new_high))

    def divide(self, first: int | float, seed: int = 0) -> tuple[Images, Images]:
        """Two disjoint parts with equal shares of the classes, e.g. to hold samples out for calibration.

        Args:
            first: Size of the first part: a count (int) or a share (float in (0, 1)).
            seed: Integer; the same seed gives the same parts.
        """
        count = round(first * len(self)) if isinstance(first, float) and 0 < first < 1 else first
        if not isinstance(count, (int, np.integer)) or not 0 < count < len(self):
            raise ValueError(f"`first` must be a share in (0, 1) or a count in 1..{len(self) - 1}. Received: first={first}.")
        order = stratified_order(self.y, seed)
        return self.take(np.sort(order[:count])), self.take(np.sort(order[count:]))


def stratified_order(y, seed):
    """A random order in which every beginning has the classes in the proportions of the whole."""
    ranks, counts = _ranks_within_class(y, seed)
    return np.lexsort((_noise(len(y), seed), (ranks + 0.5) / counts))


def balanced_order(y, seed):
    """A random order in which every beginning has equally many of each class, as far as they reach."""
    ranks, _ = _ranks_within_class(y, seed)
    return np.lexsort((_noise(len(y), seed), ranks))


def _noise(count, seed):
    return np.random.default_rng(seed).random(count)


def _ranks_within_class(y, seed):
    """Each sample's place within its own class after a shuffle, and how many its class has."""
    _, classes, counts = np.unique(y, return_inverse=True, return_counts=True)
    order = np.lexsort((_noise(len(classes), (seed, 1)), classes))
    starts = np.cumsum(counts) - counts
    ranks = np.empty(len(classes), dtype=np.int64)
    ranks[order] = np.arange(len(classes)) - np.repeat(starts, counts)
    return ranks, counts[classes]
