"""Where a search begins. On rejecting models this matters more than how long it runs.

A start is an object with `points(attack, batch)`, which gives a point for each sample, or one of the names in `STARTS`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdefense._cache import Recent, content
from tfdefense._validation import check_number, range_of

if TYPE_CHECKING:
    from tfdefense.attacks.base import Attack, Batch


@dataclass(frozen=True)
class Sample:
    """Begins at the clean sample.

    Example:

    >>> PGD(0.1, steps=2, starts=Sample())(model, x, y).x_adv.shape == x.shape
    True
    """

    def points(self, attack: Attack, batch: Batch) -> np.ndarray:
        return batch.x


@dataclass(frozen=True)
class Random:
    """Begins at a random point of the ball. An attack without a ball begins at noise of a tenth of the range.

    Args:
        index: Number of the point: each has another one.

    Example:

    >>> PGD(0.1, steps=2, starts=[Random(0), Random(1)])(model, x, y).x_adv.shape == x.shape
    True
    """

    index: int = 0

    def points(self, attack: Attack, batch: Batch) -> np.ndarray:
        noise = np.zeros((len(batch.x), int(np.prod(batch.x.shape[1:]))), "float32")
        for row, number in enumerate(batch.number):
            rng = np.random.default_rng([attack.seed, self.index, number])
            # What may not change is no part of the ball: noise in all directions would hardly move the others.
            free = slice(None) if batch.free is None else batch.free[row].ravel()
            features = noise[row, free].size
            if hasattr(attack, "epsilon"):
                noise[row, free] = attack.ball.random(rng, (1, features), attack.epsilon)[0]
            else:
                low, high = range_of(batch.view.bounds, "The start 'random' of an attack without a ball")
                noise[row, free] = rng.uniform(-0.1, 0.1, features) * (high - low)
        return batch.x + noise.reshape(batch.x.shape)


@dataclass(frozen=True, eq=False)
class Interpolated:
    """Begins on the way to the nearest sample of another class, where the model first gives that way.

    An attack with a ball begins where that way leaves the ball.

    Args:
        pool: Where the other samples are from, a pair of samples and classes. None takes those of the call.

    Example:

    >>> PGD(0.2, steps=2, starts=Interpolated((x_train, y_train)))(defended, x, y).x_adv.shape == x.shape
    True
    """

    pool: tuple | None = None

    def points(self, attack: Attack, batch: Batch) -> np.ndarray:
        batch = batch if self.pool is None else dataclasses.replace(batch, pool=self.pool)
        goal = batch.within(batch.pool[0][_nearest_other(batch)])
        return _first(batch.x, goal, lambda x: batch.succeeded(batch.view.run(x)[2].numpy()))


@dataclass(frozen=True, eq=False)
class Accepted:
    """Begins at an image of another class, moved into the ball. The model gives that image its class and does not reject it.

    Such an image is already where a search must end up: only the ball holds it back. An attack without a ball begins on the way
    to the image, where the model first gives that way.

    Args:
        rank: 0 is the nearest such image, 1 the nearest of the second-nearest class, and so on; with a target all are of its class.
        pool: Where the images are from, a pair of samples and classes; None takes the samples of the call.

    Example:

    >>> PGD(0.2, steps=2, starts=Accepted(pool=(x_train, y_train)))(defended, x, y).x_adv.shape == x.shape
    True
    """

    rank: int = 0
    pool: tuple | None = None

    def __post_init__(self):
        check_number("rank", self.rank, low=0, whole=True)

    def points(self, attack: Attack, batch: Batch) -> np.ndarray:
        batch = batch if self.pool is None else dataclasses.replace(batch, pool=self.pool)
        flat = [x.reshape(len(x), -1) for x in (batch.x, batch.pool[0])]
        goal = batch.within(batch.pool[0][accepted_others(batch, distances(*flat), self.rank)])
        if hasattr(attack, "epsilon"):
            return goal
        return _first(batch.x, goal, lambda x: batch.succeeded(batch.view.run(x)[2].numpy()))


@dataclass(frozen=True, eq=False)
class Transferred:
    """Begins at the adversarial example that the same attack finds on another model, by default the undefended base.

    Args:
        model: The other model, such as `td.attacks.substitute_network(x_train, y_train)`; None is the undefended base.
        at_boundary: Start on the straight way to that example, where the other model first gives way. Otherwise at the end of the
            attack, which goes on to its last step there. Just across the boundary the class is in doubt, which is what defenses
            reject; far from it a search has further to go back. Neither is always the better start.

    Example:

    >>> PGD(0.2, steps=2, starts=Transferred(at_boundary=True))(defended, x, y).x_adv.shape == x.shape
    True
    """

    model: object = None
    at_boundary: bool = False

    def points(self, attack: Attack, batch: Batch) -> np.ndarray:
        view = batch.view.beside(self.model)
        if view.classes <= int(max(batch.y.max(), 0 if batch.target is None else batch.target.max())):
            raise ValueError(f"The model of the start has {view.classes} classes, too few for the labels attacked.")
        there = dataclasses.replace(batch, view=view, scale=(1.0, 1.0))
        # A search through a surrogate: the plain model has none.
        search: Any = getattr(attack, "attack", attack)
        own = {field.name for field in dataclasses.fields(search)}
        plain: dict[str, Any] = {"objective": None, "starts": ("sample",), "restarts": 1, "seed": 0}
        if hasattr(search, "epsilon"):
            plain |= {"early_stop": False, "tolerance": None}
        if not view.rejects:
            # What `OrthogonalPGD` does with a second gradient makes no difference where there is none.
            plain |= {"form": "selective"}
        plain = {name: value for name, value in plain.items() if name in own}
        end = _from_samples(dataclasses.replace(search, **plain), there)
        if not self.at_boundary:
            return end
        # Where the attack failed on the other model nothing gives way, and its end is all there is.
        return _first(batch.x, end, lambda x: there.succeeded(view.run(x)[2].numpy()))


# Of undefended models: one search after the other begins there, and would search for it anew.
_FOUND = Recent(room=2**28)


def _from_samples(attack, batch):
    """What `attack.perturb` finds from the clean samples of a batch, searched for those alone that are new.

    The same samples under the same attack on the same weights are found again, whatever else is in their batch.
    """
    aim, free = batch.aim.numpy(), batch.free
    try:
        others = batch.pool if attack.looks_at_others else None
        whole = content(batch.view.model, batch.view.bounds, attack, batch.target is None, others)
    except ValueError:
        # A function does not tell its weights, and not every layer its settings.
        return attack.perturb(batch, batch.x).x
    names = [
        content(whole, batch.x[i], int(aim[i]), int(batch.number[i]), None if free is None else free[i])
        for i in range(len(batch.x))
    ]
    found = _FOUND.find(names, lambda new: attack.perturb(batch.rows(new), batch.x[new]).x)
    return np.stack(found) if found else batch.x


# Those first that get furthest on models that reject: in a ball, a sample that is broken from one start is spared the next.
STARTS = {"base": Transferred(), "interpolated": Interpolated(), "sample": Sample(), "random": Random()}


def _first(x, goal, succeeded):
    """The first point on the way from each sample to its goal where it succeeds, by bisection; the goal where none was seen."""
    low, high = np.zeros(len(x), "float32"), np.ones(len(x), "float32")
    for _ in range(8):
        middle = (low + high) / 2
        success = succeeded(_blend(x, goal, middle))
        high, low = np.where(success, middle, high), np.where(success, low, middle)
    return _blend(x, goal, high)


def _blend(x, goal, share):
    share = share.reshape((-1,) + (1,) * (x.ndim - 1))
    return x + share * (goal - x)


def _nearest_other(batch):
    order, known = nearest_others(batch, 1)
    if not known.all():
        raise ValueError(
            "The start 'interpolated' needs samples of another class (of the target class, when targeted) among those "
            "attacked in one call. Pass more samples, or other `starts`."
        )
    return order[:, 0]


def nearest_others(batch, count):
    """For each sample the nearest of the pool that are of another class (the target's): their numbers, and which there are."""
    distance = distances(batch.x.reshape(len(batch.x), -1), batch.pool[0].reshape(len(batch.pool[0]), -1))
    distance = np.where(_others(batch), distance, np.inf)
    order = np.argsort(distance, -1, kind="stable")[:, :count]
    return order, np.isfinite(np.take_along_axis(distance, order, -1))


def _others(batch):
    """Which of the pool each sample may go towards: those of its target, or of another class than its own.

    A target that an attack chose by itself may have none: any other class will do.
    """
    classes, other = batch.pool[1][None], batch.pool[1][None] != batch.y[:, None]
    if batch.target is None:
        return other
    wanted = classes == batch.target[:, None]
    return wanted if batch.only_target else np.where(wanted.any(-1, keepdims=True), wanted, other)


def distances(a, b):
    """Squared, from each row of one array to each of another."""
    return np.square(a).sum(-1)[:, None] + np.square(b).sum(-1)[None] - 2 * a @ b.T


def accepted_others(batch, distance, rank):
    """For each sample the number of an image of the pool that is of another class (the target's), and accepted as such.

    Images that are not accepted are taken where there is no other of that class. Ranks go round where they end.

    Args:
        distance: From each sample to each of the pool.
        rank: 0 is the nearest; an untargeted rank of 1 the nearest of the second-nearest class, and after all classes the
            second-nearest of the nearest class.
    """
    classes, accepted = batch.pool[1], _labels(batch.view, batch.pool[0]) == batch.pool[1]
    allowed = _others(batch)
    if not allowed.any(-1).all():
        raise ValueError(
            "The start 'accepted' needs samples of another class (of the target class, when targeted) among those attacked in one "
            "call. Pass more samples, or other `starts`."
        )
    chosen = np.empty(len(batch.x), int)
    for row, (far, others) in enumerate(zip(distance, allowed, strict=True)):
        numbers = np.flatnonzero(others & accepted)
        numbers = np.flatnonzero(others) if len(numbers) == 0 else numbers
        numbers = numbers[np.argsort(far[numbers], kind="stable")]
        # How many of its own class come before each.
        before = np.zeros(len(numbers), int)
        for name in np.unique(classes[numbers]):
            same = classes[numbers] == name
            before[same] = np.arange(same.sum())
        chosen[row] = numbers[np.argsort(before, kind="stable")[rank % len(numbers)]]
    return chosen


_LABELS = Recent(room=2**24)


def _labels(view, x, batch_size=128):
    """What a model says of a pool of samples: looked at once for the same weights, however many batches ask."""

    def look(new=None):
        return [np.concatenate([view.run(x[i : i + batch_size])[2].numpy() for i in range(0, len(x), batch_size)])]

    try:
        name = content(view.model, view.bounds, x)
    except ValueError:
        # A function does not tell its weights, and not every layer its settings.
        return look()[0]
    return _LABELS.find([name], look)[0]


def as_tuple(starts):
    """The starts that an attack was given: one, or several; None is none yet."""
    if starts is None:
        return ()
    return (starts,) if isinstance(starts, str) or not hasattr(starts, "__iter__") else tuple(starts)


def resolve(starts, view, y, target=None, restarts=1):
    """Start objects from names: "all" means every one that this model and these samples have.

    None is the sample on a plain model and "all" on one that rejects, where a search from the sample alone gets stuck on
    the plateau of rejection and flatters the defense.
    """
    starts = ("all" if view.rejects else "sample") if starts is None else starts
    if starts == "all":
        goals = len(np.unique(y)) > 1 if target is None else np.isin(target, y).all()
        possible = {"base": view.rejects and view.has_base, "interpolated": goals}
        starts = [name for name in STARTS if possible.get(name, True)]
    found, starts = [], as_tuple(starts)
    if not starts:
        raise ValueError(f"`starts` must name at least one of {', '.join(map(repr, STARTS))}, or 'all'. Received none.")
    for start in starts:
        if start not in STARTS if isinstance(start, str) else not hasattr(start, "points"):
            raise ValueError(f"`starts` must be among {', '.join(map(repr, STARTS))}, or 'all'. Received: {start!r}.")
        start = STARTS[start] if isinstance(start, str) else start
        found += [Random(start.index + i) for i in range(restarts)] if isinstance(start, Random) else [start]
    return found
