from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.objectives import Margin, Objective
from tfdefense.view import View

REDRAWN = 10  # times at most, where a square would change nothing
# Queries that a sample's random numbers are drawn for together.
_AHEAD = 32
# At these shares of all queries the squares get half as large.
_HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(Attack):
    """Random search that asks for outputs and needs no gradient: squares are changed, and kept where that helps.

    If it finds more than gradients do, these are masked. Any array of samples is taken for images; one without
    height and width for a single row. In linf a square gets a sign, in l2 it gets what another square had, as a hill.

    Args:
        epsilon: Size of the ball.
        norm: "linf" or "l2".
        queries: Looks at the model, at most; `steps` of the result counts them.
        share: Of the pixels that the first squares cover.
        objective: What to make small; None means `Margin()`, or `Evade()` on a model that rejects.
        starts: Where to begin, as in `PGD`.
        seed: Of the squares.

    Example:

    >>> result = Square(0.3, queries=200)(model, x, y)
    >>> bool((abs(result.x_adv - x) <= 0.3 + 1e-6).all()), bool(result.zero_gradient.any())
    (True, False)

    Reference: Andriushchenko et al., 2020, Square attack: a query-efficient black-box adversarial attack via random search.
    """

    epsilon: float
    norm: str = "linf"
    queries: int = 1000
    share: float = 0.3
    objective: Objective | None = None
    starts: tuple | str = ("sample",)
    seed: int = 0

    def __post_init__(self):
        norm_named(self.norm, ("linf", "l2"))
        check_number("epsilon", self.epsilon)
        check_number("queries", self.queries, low=1, whole=True)
        check_number("share", self.share, above=True)
        if self.share > 1:
            raise ValueError(f"`share` must be at most 1, all pixels. Received: {self.share!r}.")

    def objective_on(self, view: View) -> Objective:
        # A cross-entropy of float32 stands still where the model is sure, and a search without gradients with it.
        return super().objective_on(view) if self.objective is not None or view.rejects else Margin()

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        aim, scale = batch.y if batch.target is None else batch.target, tf.constant(batch.scale, tf.float32)

        def ask(points, rows):
            # By the function that every look at the model goes through: one of its own would be compiled for each objective.
            scores, suspicion, label = view.run(points)
            wanted, label = tf.constant(aim[rows]), label.numpy()
            value = objective.value(scores, suspicion, wanted, wanted if targeted else None, scale).numpy()
            return value, batch.succeeded(label, rows), label

        generators = [np.random.default_rng([self.seed, number]) for number in batch.number]
        best, spent = np.array(start, "float32"), np.zeros(len(start), int)
        value, success, label = map(np.array, ask(best, np.arange(len(best))))
        for query in range(self.queries):
            rows = np.flatnonzero(~success)
            if len(rows) == 0:
                break
            images, clean = _as_images(best[rows]), _as_images(batch.x[rows])
            side = self._side(query, images.shape)
            if query == 0:
                tried = self._first([generators[row] for row in rows], clean, side)
            else:
                place = (query - 1) % _AHEAD
                if place == 0:
                    drawn = np.zeros((len(start), _AHEAD, REDRAWN, self._numbers(images)))
                    for row in rows:
                        drawn[row] = generators[row].random(drawn.shape[1:])
                tried = self._next(drawn[rows, place], images, clean, side, view.bounds)
            tried = self._inside(batch.rows(rows), tried.reshape(len(rows), *start.shape[1:]))
            spent[rows] += 1
            new = ask(tried, rows)
            better = new[1] | (new[0] < value[rows])
            kept = rows[better]
            best[kept] = tried[better]
            value[kept], success[kept], label[kept] = (array[better] for array in new)
        return Candidates(best, spent, np.zeros(len(start), bool), label)

    def _side(self, query, shape):
        halvings = sum(query >= mark * self.queries for mark in _HALVED)
        return max(1, round(np.sqrt(self.share / 2**halvings * shape[1] * shape[2])))

    def _first(self, generators, clean, side):
        """Vertical stripes, or a tiling of hills, in place of whatever the start was."""
        _, height, width, channels = clean.shape
        if self.norm == "linf":
            drawn = np.stack([rng.random((1, width, channels)) for rng in generators])
            return clean + np.float32(self.epsilon) * _signs(drawn)
        change = np.empty_like(clean)
        for top in range(0, height, side):
            for left in range(0, width, side):
                window = np.s_[:, top : top + side, left : left + side]
                drawn = np.stack([rng.random(1 + channels) for rng in generators])
                change[window] = _hills(drawn, *change[window].shape[1:3])
        return clean + self.epsilon * change / np.maximum(_length(change), 1e-12)

    def _numbers(self, images):
        """Uniform numbers for one square: where it is, with what sign; in l2 also where one goes, and which way a hill falls."""
        return (2 if self.norm == "linf" else 5) + images.shape[-1]

    def _next(self, drawn, images, clean, side, bounds):
        """All images with one square each changed, from uniform numbers for as many turns as there may be."""
        change = self._one_sign if self.norm == "linf" else self._moved_hill
        tried, rows = images.copy(), np.arange(len(images))
        for turn in range(REDRAWN):
            changed = tried[rows] = np.clip(change(drawn[rows, turn], images[rows], clean[rows], side), *bounds)
            # The sign that a square has, or one that the bounds take back, is no query worth.
            rows = rows[(changed == images[rows]).all((1, 2, 3))]
            if len(rows) == 0:
                break
        return tried

    def _one_sign(self, drawn, images, clean, side):
        window = _windows(drawn, images, side)
        images[window] = clean[window] + np.float32(self.epsilon) * _signs(drawn[:, None, None, 2:])
        return images

    def _moved_hill(self, drawn, images, clean, side):
        """One square loses its change, and another gets that length and whatever was left."""
        change = images - clean
        to, away = _windows(drawn, images, side), _windows(drawn[:, 2:], images, side)
        old = change[to]
        change[to] = change[away] = 0
        room = np.sqrt(np.maximum(self.epsilon**2 - np.square(_length(change)), 0))
        before = _length(old)
        grown = _hills(drawn[:, 4:], *old.shape[1:3]) + old / np.where(before > 0, before, 1)
        change[to] = room * grown / np.maximum(_length(grown), 1e-12)
        return clean + change


def _as_images(points):
    return points if points.ndim == 4 else points.reshape(len(points), 1, -1, 1)


def _length(images):
    return np.sqrt(np.einsum("nhwc,nhwc->n", images, images))[:, None, None, None]


def _signs(drawn):
    return np.where(drawn < 0.5, np.float32(-1), np.float32(1))


def _windows(drawn, images, side):
    """The indices of a square in each image, from two uniform numbers each."""
    count, height, width = images.shape[:3]
    tall, wide = min(side, height), min(side, width)
    top, left = ((drawn[:, i, None] * room).astype(int) for i, room in enumerate((height - tall + 1, width - wide + 1)))
    return np.arange(count)[:, None, None], (top + np.arange(tall))[:, :, None], (left + np.arange(wide))[:, None]


def _hills(drawn, height, width):
    """Of length 1, highest in the middle, a sign a channel; of two halves the second goes down. From 1 + channels numbers each."""
    shapes = _both_hills(height, width)[(drawn[:, 0] < 0.5).astype(int)]
    return shapes[..., None] * _signs(drawn[:, None, None, 1:]) / np.float32(np.sqrt(drawn.shape[1] - 1))


@lru_cache(maxsize=64)
def _both_hills(height, width):
    """The hill whose right half goes down, and that whose lower half does, each of length 1."""
    far = [np.minimum(np.arange(length), np.arange(length)[::-1]) for length in (height, width)]
    ring = np.minimum(far[0][:, None], far[1])
    steps = np.cumsum(1.0 / np.square(np.arange(ring.max() + 1, 0, -1)))
    both = np.stack([steps[ring]] * 2)
    both[0, :, width // 2 + width % 2 :] *= -1
    both[1, height // 2 + height % 2 :] *= -1
    return (both / np.linalg.norm(both[0])).astype("float32")
