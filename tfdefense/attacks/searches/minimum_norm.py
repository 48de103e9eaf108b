from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.norms import NORMS
from tfdefense.attacks.objectives import LogSumExp, Margin, MaximumConfidence, Objective
from tfdefense.attacks.result import AttackResult
from tfdefense.attacks.searches.loop import check_search, lengths, search
from tfdefense.attacks.searches.projected import all_zero, carried, move, slope
from tfdefense.view import View

# Of a round beyond the first search: how much smaller its ball is at first and at most, how that grows where a success was found,
# and the momentum of the steps.
SHRINK, LARGEST, GROWTH, MOMENTUM = 0.3, 0.4, 1.5, 0.75


@dataclass(frozen=True)
class MinimumNorm(Attack):
    """Looks for the smallest change of each sample: projected steps in a ball that shrinks on success and grows otherwise.

    One run tells of every size: within each, those samples are broken whose `distance` is no larger, see
    `td.metrics.WorstCaseCurve.of`. Rejection takes part in the objective; what counts as a success is the label alone.

    Until a sample has first been broken its ball reaches to where the boundary of the linearised model lies. Steps are measured
    in radii of the sample's own ball, so the unit of the pixels makes no difference.

    Args:
        norm: "linf", "l2" or "l1".
        steps: Gradient steps from each start.
        step_size: Length of the first step in radii of the ball; along half a cosine steps shrink to 0.
        gamma: By which share a ball shrinks on success and grows otherwise. It stays: one that fell to 0 with the steps would
            hold balls that start large near their size, as short steps are the first to succeed on models that reject.
        rounds: How often to go on from the nearest success of all starts: as many steps again, with momentum, in a ball that is
            smaller than its distance, by 30 % at first, then more where a success was found and half as much where none was.
            Their objective is `MaximumConfidence()` on a model that rejects, unless one is given.
        refine: Looks for a success still nearer on the straight way from the sample, by bisection; each is a forward pass.
        objective: What to make small; None means `Margin()`, or on a model that rejects `LogSumExp()`, which leads out of
            rejection. Where several classes or rejection are about equally near, its slope is a mean of theirs and the nearest
            point is missed by some percent: `MaximumConfidence()` gets there, and finds less elsewhere.
        starts: Where to begin, as in `PGD`. None is the sample, and on a model that rejects "all". The nearest success of all
            starts counts.
        restarts: Random starts, where `starts` has any.
        seed: Of the random starts.
        targets: Aim at so many of the likeliest wrong classes in turn, from each start; 0 aims away from the true class.

    Example:

    >>> result = MinimumNorm("l2", steps=20)(model, x, y)
    >>> [float((result.success & (result.distance <= size)).mean()) for size in (0.0, 100.0)]
    [0.0, 1.0]

    References: Pintor et al., 2021, Fast minimum-norm adversarial attacks through adaptive norm constraints; Rony et al., 2019,
    Decoupling direction and norm for efficient gradient-based l2 adversarial attacks and defenses.
    """

    norm: str = "l2"
    steps: int = 50
    step_size: float = 1.0
    gamma: float = 0.05
    rounds: int = 6
    refine: int = 5
    objective: Objective | None = None
    starts: tuple | str | None = None
    restarts: int = 1
    seed: int = 0
    targets: int = 0

    def __post_init__(self):
        check_search(self)
        check_number("gamma", self.gamma, above=True)
        if self.gamma >= 1:
            raise ValueError(f"`gamma` must be a share below 1. Received: {self.gamma}. Pass `gamma=0.05`.")
        check_number("rounds", self.rounds, whole=True)
        check_number("refine", self.refine, whole=True)

    def objective_on(self, view: View) -> Objective:
        super().objective_on(view)
        return self.objective or (LogSumExp() if view.rejects else Margin())

    def finish(self, batch: Batch, best: AttackResult) -> AttackResult:
        """The rounds from the nearest success."""
        shrink = np.full(len(batch.x), SHRINK)
        for _ in range(self.rounds):
            rows = np.flatnonzero(best.success & (best.distance > 0))
            if not len(rows):
                break
            some, radius = batch.rows(rows), (1 - shrink[rows]) * best.distance[rows]
            found = self._judge(some, self._closer(some, best.x_adv[rows], radius)).spread(rows, best)
            nearer = best.beaten_by(found)
            best, shrink = best.with_rows(nearer, found), np.where(nearer, np.minimum(shrink * GROWTH, LARGEST), shrink / 2)
        return best

    def _closer(self, batch, end, radius):
        """From successes, annealed steps in balls that they lie outside of: the nearest success in each, or the end of the way."""
        flat = self.ball.project(tf.constant((end - batch.x).reshape(len(end), -1)), tf.constant(radius[:, None], tf.float32))
        start = np.clip(batch.x + flat.numpy().reshape(end.shape), *batch.view.bounds).astype("float32")
        state = self._first_state(batch, start) | {"epsilon": tf.constant(radius, tf.float32), "velocity": tf.zeros(start.shape)}
        # Both objectives are without units: what was measured for one holds for the other.
        objective = self.objective or (MaximumConfidence() if batch.view.rejects else Margin())
        return self._walk(batch, _build_round, objective, state, 1.0)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        gamma = tf.constant(self.gamma, tf.float32)
        return self._walk(batch, _build_step, self.objective_on(batch.view), self._first_state(batch, start), self.step_size, gamma)

    def _walk(self, batch, build, objective, state, first, *more):
        """All steps of one kind, the first so many radii long; the nearest success of each sample on the way, refined."""
        view, targeted = batch.view, batch.target is not None
        key = ("minimum norm", build.__name__, self.norm, objective, targeted)
        step = view.function(key, lambda: build(view, self.ball, objective, targeted))
        scale, shares = tf.constant(batch.scale, tf.float32), iter(lengths("cosine", first, self.steps))
        final, spent = search(lambda state: step(state, scale, tf.constant(next(shares)), *more), state, self.steps)
        found = np.isfinite(final["best_distance"])
        # Of failures the end of the way, from where the next stage of a surrogate goes on.
        x = np.where(_wide(found, final["x"]), final["best"], final["x"])
        return Candidates(self._refined(batch, x, found), spent, final["zero"])

    def _first_state(self, batch, start):
        low, high = batch.view.bounds
        farthest = np.maximum(high - batch.x, batch.x - low).reshape(len(start), -1)
        arrays = {
            "best": start,
            "best_distance": np.full(len(start), np.inf, "float32"),
            "epsilon": np.zeros(len(start), "float32"),
            "farthest": self.ball.distance(farthest).astype("float32"),
        }
        return batch.state(start) | {name: tf.constant(value) for name, value in arrays.items()}

    def _refined(self, batch, x, found):
        """The successes moved towards their samples by at most a tenth, as far as each look confirms."""
        rows = np.flatnonzero(found)
        some, end = batch.rows(rows), x[rows]
        low, high = np.full(len(rows), 0.9, "float32"), np.ones(len(rows), "float32")
        for _ in range(self.refine if len(rows) else 0):
            middle = (low + high) / 2
            label = batch.view.run(some.x + _wide(middle, end) * (end - some.x))[2].numpy()
            success = some.succeeded(label)
            low, high = np.where(success, low, middle), np.where(success, middle, high)
        nearer = np.array(x)
        nearer[rows] = np.where(_wide(high < 1, end), some.x + _wide(high, end) * (end - some.x), end)
        return nearer


def _wide(numbers, like):
    return numbers.reshape((-1,) + (1,) * (like.ndim - 1))


def _build_step(view, ball, objective, targeted):
    def step(state, scale, share, gamma):
        x, clean = state["x"], state["clean"]
        flat = [tf.shape(x)[0], int(np.prod(x.shape[1:]))]
        value, label, gradient = slope(view, objective, targeted, x, state["aim"], scale, state.get("free"))
        success = succeeds(label, state)
        state, distance = _with_nearest(state, success, ball)
        best = state["best_distance"]
        # The objective may be below 0 before any class has won: its size alone says how far the boundary is.
        steepness = NORMS[ball.dual].length(tf.reshape(gradient, flat))
        boundary = distance + (tf.abs(value) + 1e-4) / tf.maximum(steepness, 1e-20)
        grown = state["epsilon"] * (1 + gamma)
        waiting = tf.where(tf.math.is_finite(best), grown, tf.maximum(grown, boundary))
        epsilon = tf.where(success, best * (1 - gamma), waiting)
        # Nothing is won beyond the best success, and nothing lies beyond the bounds.
        epsilon = state["epsilon"] = tf.minimum(epsilon, tf.minimum(best, state["farthest"]))
        state["zero"] |= all_zero(gradient) & ~success
        state["x"] = move(x, clean, gradient, (share * epsilon)[:, None], epsilon[:, None], ball, view.bounds)
        return state

    return step


def _build_round(view, ball, objective, targeted):
    """A step in a ball that stays as it is."""

    def step(state, scale, share):
        x = state["x"]
        _, label, gradient = slope(view, objective, targeted, x, state["aim"], scale, state.get("free"))
        success = succeeds(label, state)
        state, _ = _with_nearest(state, success, ball)
        state["zero"] |= all_zero(gradient) & ~success
        state["velocity"], epsilon = carried(state["velocity"], gradient, MOMENTUM), state["epsilon"][:, None]
        state["x"] = move(x, state["clean"], state["velocity"], share * epsilon, epsilon, ball, view.bounds)
        return state

    return step


def _with_nearest(state, success, ball):
    """A state in which the point it is at is the best where it is a success nearer to the sample; and how far it is."""
    x = state["x"]
    distance = ball.length(tf.reshape(x - state["clean"], [tf.shape(x)[0], int(np.prod(x.shape[1:]))]))
    closer = success & (distance < state["best_distance"])
    best = tf.where(tf.reshape(closer, [-1] + [1] * (len(x.shape) - 1)), x, state["best"])
    return state | {"best": best, "best_distance": tf.where(closer, distance, state["best_distance"])}, distance
