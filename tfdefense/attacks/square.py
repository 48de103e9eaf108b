from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense.attacks.base import Attack, Found, check_number
from tfdefense.attacks.objectives import Margin, Objective
from tfdefense.attacks.projected import look

# At these shares of all queries the squares get half as large.
_HALVED = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Square(Attack):
    """Random search in linf that asks for outputs and needs no gradient: squares of changed sign, kept where they help.

    What finds more than the gradients do shows that these are masked. Any array of samples is taken for images; one without
    height and width for a single row.

    Args:
        epsilon: Size of the linf ball.
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
    queries: int = 1000
    share: float = 0.05
    objective: Objective | None = None
    starts: tuple | str = ("sample",)
    seed: int = 0

    norm = "linf"

    def __post_init__(self):
        check_number("epsilon", self.epsilon)
        check_number("queries", self.queries, low=1, whole=True)
        check_number("share", self.share, above=True)
        if self.share > 1:
            raise ValueError(f"`share` must be at most 1, all pixels. Received: {self.share!r}.")

    def objective_on(self, view):
        # A cross-entropy of float32 stands still where the model is sure, and a search without gradients with it.
        return super().objective_on(view) if self.objective is not None or view.rejects else Margin()

    def perturb(self, batch, start):
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        # As the last look of PGD: the same function serves both.
        ask = view.function(
            ("pgd value", objective, targeted), lambda: lambda x, aim, scale: look(view, objective, targeted, x, aim, scale)
        )
        scale = tf.constant(batch.scale, tf.float32)
        generators = [np.random.default_rng([self.seed, number]) for number in batch.number]
        best, spent = np.array(start, "float32"), np.zeros(len(start), int)
        value, fooled, label = (np.array(tensor) for tensor in ask(tf.constant(best), batch.aim, scale))
        for query in range(self.queries):
            rows = np.flatnonzero(~fooled)
            if len(rows) == 0:
                break
            tried = np.stack([self._changed(generators[row], best[row], batch.x[row], query) for row in rows])
            tried = self._inside(batch.rows(rows), tried)
            spent[rows] += 1
            new = [tensor.numpy() for tensor in ask(tf.constant(tried), tf.gather(batch.aim, rows), scale)]
            better = new[1] | (new[0] < value[rows])
            kept = rows[better]
            best[kept] = tried[better]
            value[kept], fooled[kept], label[kept] = (array[better] for array in new)
        return Found(best, spent, np.zeros(len(start), bool), label)

    def _changed(self, rng, x, clean, query):
        """First vertical stripes, then squares of one sign a channel."""
        shape = x.shape if x.ndim == 3 else (1, x.size, 1)
        height, width, channels = shape
        changed, clean = x.reshape(shape).copy(), clean.reshape(shape)
        if query == 0:
            window, signs = np.s_[:, :], rng.choice([-1.0, 1.0], (1, width, channels))
        else:
            halvings = sum(query >= mark * self.queries for mark in _HALVED)
            side = max(1, round(np.sqrt(self.share / 2**halvings * height * width)))
            tall, wide = min(side, height), min(side, width)
            top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
            window, signs = np.s_[top : top + tall, left : left + wide], rng.choice([-1.0, 1.0], channels)
        changed[window] = clean[window] + self.epsilon * signs
        return changed.reshape(x.shape)
