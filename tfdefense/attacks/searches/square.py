from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.objectives import Margin, Objective
from tfdefense.attacks.searches.projected import look
from tfdefense.view import View

REDRAWN = 10  # times at most, where a square would change nothing
# At these shares of all queries the squares get half as large.
_HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(Attack):
    """Random search that asks for outputs and needs no gradient: squares are changed, and kept where that helps.

    What finds more than the gradients do shows that these are masked. Any array of samples is taken for images; one without
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
        ask = view.function(
            ("square", objective, targeted), lambda: lambda x, aim, scale: look(view, objective, targeted, x, aim, scale)
        )
        scale = tf.constant(batch.scale, tf.float32)
        generators = [np.random.default_rng([self.seed, number]) for number in batch.number]
        best, spent = np.array(start, "float32"), np.zeros(len(start), int)
        value, label = (np.array(tensor) for tensor in ask(tf.constant(best), batch.aim, scale))
        success = batch.succeeded(label)
        for query in range(self.queries):
            rows = np.flatnonzero(~success)
            if len(rows) == 0:
                break
            tried = np.stack([self._changed(generators[row], best[row], batch.x[row], query, view.bounds) for row in rows])
            tried = self._inside(batch.rows(rows), tried)
            spent[rows] += 1
            new, said = (tensor.numpy() for tensor in ask(tf.constant(tried), tf.gather(batch.aim, rows), scale))
            done = batch.succeeded(said, rows)
            better = done | (new < value[rows])
            kept = rows[better]
            best[kept] = tried[better]
            value[kept], success[kept], label[kept] = new[better], done[better], said[better]
        return Candidates(best, spent, np.zeros(len(start), bool), label)

    def _changed(self, rng, x, clean, query, bounds):
        shape = x.shape if x.ndim == 3 else (1, x.size, 1)
        halvings = sum(query >= mark * self.queries for mark in _HALVED)
        side = max(1, round(np.sqrt(self.share / 2**halvings * shape[0] * shape[1])))
        change = self._signs if self.norm == "linf" else self._hills
        for _ in range(REDRAWN):
            changed = np.clip(change(rng, x.reshape(shape), clean.reshape(shape), query, side), *bounds).reshape(x.shape)
            # The sign that a square has, or one that the bounds take back, is no query worth.
            if not np.array_equal(changed, x):
                break
        return changed

    def _signs(self, rng, x, clean, query, side):
        """First vertical stripes, then squares of one sign a channel."""
        changed, channels = x.copy(), x.shape[-1]
        if query == 0:
            window, signs = np.s_[:, :], rng.choice([-1.0, 1.0], (1, x.shape[1], channels))
        else:
            window, signs = _window(rng, x, side), rng.choice([-1.0, 1.0], channels)
        changed[window] = clean[window] + self.epsilon * signs
        return changed

    def _hills(self, rng, x, clean, query, side):
        """First a tiling of hills; then one square loses its change, and another gets that length and whatever was left."""
        change = (x - clean).astype("float64")
        if query == 0:
            for top in range(0, x.shape[0], side):
                for left in range(0, x.shape[1], side):
                    window = np.s_[top : top + side, left : left + side]
                    change[window] = _hill(rng, change[window].shape)
            return clean + self.epsilon * change / np.linalg.norm(change)
        to, away = _window(rng, x, side), _window(rng, x, side)
        rest = change.copy()
        rest[to] = rest[away] = 0.0
        room = np.sqrt(max(self.epsilon**2 - np.square(rest).sum(), 0.0))
        before = np.linalg.norm(change[to])
        grown = _hill(rng, change[to].shape) + (change[to] / before if before > 0 else 0.0)
        change = rest
        change[to] = room * grown / max(np.linalg.norm(grown), 1e-12)
        return clean + change


def _window(rng, x, side):
    height, width = x.shape[:2]
    tall, wide = min(side, height), min(side, width)
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    return np.s_[top : top + tall, left : left + wide]


def _hill(rng, shape):
    """Of length 1, highest in the middle, a sign a channel; of two halves the second goes down."""
    height, width, channels = shape
    far = [np.minimum(np.arange(length), np.arange(length)[::-1]) for length in (height, width)]
    ring = np.minimum(far[0][:, None], far[1])
    steps = np.cumsum(1.0 / np.square(np.arange(ring.max() + 1, 0, -1)))
    hill = steps[ring]
    if rng.random() < 0.5:
        hill[height // 2 + height % 2 :] *= -1
    else:
        hill[:, width // 2 + width % 2 :] *= -1
    hill = hill[..., None] * rng.choice([-1.0, 1.0], channels)
    return hill / np.linalg.norm(hill)
