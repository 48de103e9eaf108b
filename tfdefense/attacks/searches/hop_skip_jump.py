from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfdefense._validation import check_number, range_of
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.starts import nearest_others

# Where no start succeeds: so many images of other classes are tried, then so many of noise.
_IMAGES, _NOISES = 16, 32
_HALVINGS = 16
# Numbers in the points that are looked at together.
_TOGETHER = 2**22


@dataclass(frozen=True)
class HopSkipJump(Attack):
    """Walks along the boundary towards the sample, asking for labels alone. Gradients play no part.

    From a point that succeeds, over and over: back towards the sample as far as the label holds, the way across the boundary
    from the labels of many near points, a step that way. On a model that rejects, its boundary is that of "neither right
    nor rejected". It looks for the smallest distance: one run tells about every size of a ball.

    Args:
        norm: "l2" or "linf".
        queries: Labels asked for, at most; `steps` of the result counts them.
        points: Near points of the first look across the boundary; later ones take more, with the root of their number.
        starts: Where to begin, as in `PGD`. A start that does not succeed is replaced by the nearest images of the call that
            the model takes for another class, or by noise.
        seed: Of the near points and of the noise.

    Example:

    >>> result = HopSkipJump("linf", queries=1000)(model, x, y)
    >>> bool(result.success.all()), bool((result.steps <= 1000).all())
    (True, True)

    Reference: Chen et al., 2020, HopSkipJumpAttack: a query-efficient decision-based attack.
    """

    looks_at_others = True

    norm: str = "l2"
    queries: int = 5000
    points: int = 100
    starts: tuple | str = ("sample",)
    seed: int = 0

    def __post_init__(self):
        norm_named(self.norm, ("l2", "linf"))
        check_number("points", self.points, low=2, whole=True)
        # The search for a first point and one step.
        check_number("queries", self.queries, low=150 + self.points, whole=True)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        range_of(batch.view.bounds, "HopSkipJump")
        walk = _Walk(self, batch)
        at, ready = walk.begin(np.array(start, "float32"))
        rows = np.flatnonzero(ready)
        at[rows] = walk.back(rows, at[rows])
        best, nearest = at.copy(), walk.distance(np.arange(len(at)), at)
        turn = 0
        while True:
            turn += 1
            count = int(self.points * np.sqrt(turn))
            rows = rows[walk.spent[rows] + count + _HALVINGS + walk.bisections <= self.queries]
            if len(rows) == 0:
                return Candidates(best, walk.spent, np.zeros(len(at), bool))
            moved = walk.step(rows, at[rows], count, turn)
            at[rows] = walk.back(rows, moved)
            distance = walk.distance(rows, at[rows])
            better = distance < nearest[rows]
            best[rows[better]], nearest[rows[better]] = at[rows[better]], distance[better]


class _Walk:
    """The samples of a batch on their way; rows are numbers of samples, points lie one a row."""

    def __init__(self, attack, batch):
        self.attack, self.batch = attack, batch
        self.spent = np.zeros(len(batch.x), int)
        self.generators = [np.random.default_rng([attack.seed, number]) for number in batch.number]
        self.features = int(np.prod(batch.x.shape[1:]))
        # What is left between the point and the boundary is then less than how far near points lie across it.
        self.bisections = int(np.ceil(1.5 * np.log2(max(self.features, 2)))) + 1

    def asked(self, rows, points):
        """Whether each point succeeds, in place of the sample of its row."""
        np.add.at(self.spent, rows, 1)
        size = max(1, _TOGETHER // self.features)
        parts = [self.batch.view.run(points[i : i + size])[2].numpy() for i in range(0, len(points), size)]
        return self.batch.succeeded(np.concatenate(parts), rows)

    def distance(self, rows, points):
        return self.attack.ball.distance((points.astype("float64") - self.batch.x[rows]).reshape(-1, self.features))

    def begin(self, points):
        """Points that succeed, and for which samples there is one."""
        every = np.arange(len(points))
        ready = self.asked(every, points)
        order, known = nearest_others(self.batch, _IMAGES)
        for turn in range(_IMAGES + _NOISES):
            rows = np.flatnonzero(~ready)
            if turn < order.shape[1]:
                rows = rows[known[rows, turn]]
                tried = self.batch.pool[0][order[rows, turn]]
            elif turn < _IMAGES:
                continue
            else:
                shape, (low, high) = points.shape[1:], self.batch.view.bounds
                tried = [self.generators[row].uniform(low, high, shape).astype("float32") for row in rows]
            if len(rows) == 0:
                continue
            tried = self.batch.rows(rows).within(np.asarray(tried, "float32"))
            found = self.asked(rows, tried)
            points[rows[found]] = tried[found]
            ready[rows[found]] = True
        return points, ready

    def back(self, rows, points):
        """As near to the samples as the labels hold on the way there."""
        if len(rows) == 0:
            return points
        low, high = np.zeros(len(rows), "float32"), np.ones(len(rows), "float32")
        for _ in range(self.bisections):
            middle = (low + high) / 2
            success = self.asked(rows, self.between(rows, points, middle))
            high, low = np.where(success, middle, high), np.where(success, low, middle)
        return np.where(_wide(high < 1, points), self.between(rows, points, high), points)

    def between(self, rows, points, share):
        """At that share of the distance in the norm; of points on that sphere the nearest."""
        clean = self.batch.x[rows]
        if self.attack.norm == "l2":
            return clean + _wide(share, points) * (points - clean)
        radius = _wide(share * self.distance(rows, points).astype("float32"), points)
        return np.clip(points, clean - radius, clean + radius)

    def step(self, rows, points, count, turn):
        """A step across the boundary, halved until it succeeds; nothing where it never does."""
        moved, waiting = points.copy(), np.arange(len(rows))
        way = self.across(rows, points, count)
        length = (self.distance(rows, points) / np.sqrt(turn)).astype("float32")
        for _ in range(_HALVINGS):
            if len(waiting) == 0:
                break
            tried = points[waiting] + _wide(length[waiting], points) * way[waiting]
            tried = tried.clip(*self.batch.view.bounds)
            success = self.asked(rows[waiting], tried)
            moved[waiting[success]] = tried[success]
            waiting = waiting[~success]
            length[waiting] /= 2
        return moved

    def across(self, rows, points, count):
        """The steepest step away from the boundary in the norm, estimated from the labels of near points."""
        low, high = self.batch.view.bounds
        way = np.empty_like(points)
        together = max(1, _TOGETHER // (count * self.features))
        for first in range(0, len(rows), together):
            part = np.arange(first, min(first + together, len(rows)))
            at = points[part].reshape(len(part), 1, self.features)
            drawn = [self.generators[row].standard_normal((count, self.features), "float32") for row in rows[part]]
            drawn = np.stack(drawn)
            if self.batch.free is not None:
                drawn *= self.batch.free[rows[part]].reshape(len(part), 1, self.features)
            drawn /= np.linalg.norm(drawn, axis=-1, keepdims=True)
            length = np.linalg.norm((points[part] - self.batch.x[rows[part]]).reshape(-1, self.features), axis=-1) / self.features
            # Float32 pixels need a change that they can hold.
            length = np.maximum(length, 1e-5 * np.sqrt(self.features) * (high - low)).astype("float32")
            near = (at + length[:, None, None] * drawn).clip(low, high)
            success = self.asked(np.repeat(rows[part], count), near.reshape(-1, *points.shape[1:]))
            sign = np.where(success.reshape(len(part), count), np.float32(1), np.float32(-1))
            mean = sign.mean(-1, keepdims=True)
            # Taken all alike they have no contrast: then it is the mean of the directions, or its opposite.
            sign = np.where(np.abs(mean) < 1, sign - mean, sign)
            found = np.einsum("rc,rcf->rf", sign, near - at)
            found /= np.maximum(np.linalg.norm(found, axis=-1, keepdims=True), 1e-30)
            way[part] = (np.sign(found) if self.attack.norm == "linf" else found).reshape(-1, *points.shape[1:])
        return way


def _wide(values, like):
    return values.reshape((-1,) + (1,) * (like.ndim - 1))
