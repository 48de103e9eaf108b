from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.norms import NORMS, norm_named
from tfdefense.attacks.objectives import LogSumExp, Margin, Objective
from tfdefense.attacks.searches.loop import search
from tfdefense.attacks.searches.projected import all_zero, look, move
from tfdefense.view import View

OPT = {"min_share": 0.0, "gamma_end": 0.0, "init": True}


@dataclass(frozen=True)
class MinimumNorm(Attack):
    norm: str = "l2"
    steps: int = 50
    step_size: float = 1.0
    gamma: float = 0.05
    refine: int = 0
    objective: Objective | None = None
    starts: tuple | str | None = None
    restarts: int = 1
    seed: int = 0

    def __post_init__(self):
        norm_named(self.norm)
        check_number("steps", self.steps, low=1, whole=True)
        check_number("step_size", self.step_size, above=True)
        check_number("gamma", self.gamma, above=True)

    def objective_on(self, view: View) -> Objective:
        return self.objective or (LogSumExp() if view.rejects else Margin())

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        key = ("minimum norm", self.norm, objective, targeted)
        step = view.function(key, lambda: _build_step(view, self.ball, objective, targeted))
        scale = tf.constant(batch.scale, tf.float32)
        calls = iter(range(self.steps))

        def one(state):
            # From a full radius to none: long steps find the way, short ones settle at the boundary.
            index = next(calls)
            left = (1 + math.cos(math.pi * index / self.steps)) / 2
            share = OPT["min_share"] + (self.step_size - OPT["min_share"]) * left
            gamma = OPT["gamma_end"] + (self.gamma - OPT["gamma_end"]) * left
            return step(state, scale, tf.constant(share, tf.float32), tf.constant(gamma, tf.float32))

        final, spent = search(one, self._first_state(batch, start), self.steps)
        best = final["best"]
        found = np.isfinite(final["best_distance"])
        x = np.where(found.reshape((-1,) + (1,) * (start.ndim - 1)), best, final["x"])
        return Candidates(x, spent, final["zero"])

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


def _length(norm, delta):
    if norm == "linf":
        return tf.reduce_max(tf.abs(delta), -1)
    return tf.norm(delta, axis=-1) if norm == "l2" else tf.reduce_sum(tf.abs(delta), -1)


DUAL = {"linf": "l1", "l2": "l2", "l1": "linf"}


def _build_step(view, ball, objective, targeted):
    def step(state, scale, share, gamma):
        x, clean = state["x"], state["clean"]
        wide = [-1] + [1] * (len(x.shape) - 1)
        features = int(np.prod(x.shape[1:]))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            value, success, _ = look(view, objective, targeted, x, state["aim"], scale)
        gradient = gradient_or_error(view, tape, value, x, state.get("free"))
        distance = _length(ball.name, tf.reshape(x - clean, [-1, features]))
        state = dict(state)
        closer = success & (distance < state["best_distance"])
        state["best"] = tf.where(tf.reshape(closer, wide), x, state["best"])
        best = state["best_distance"] = tf.where(closer, distance, state["best_distance"])
        slope = _length(DUAL[ball.name], tf.reshape(gradient, [-1, features]))
        estimate = distance + (tf.abs(value) + 1e-4) / tf.maximum(slope, 1e-20)
        grown = state["epsilon"] * (1 + gamma)
        # Once it has been across, it goes back there by small steps; until then the linear model says how far it is.
        epsilon = tf.where(
            success,
            tf.minimum(best, state["epsilon"]) * (1 - gamma) if OPT.get("strict") else best * (1 - gamma),
            tf.where(tf.math.is_finite(best), grown, tf.maximum(grown, estimate)),
        )
        epsilon = tf.minimum(epsilon, tf.minimum(best, state["farthest"]))
        state["epsilon"] = epsilon
        state["zero"] |= all_zero(gradient) & ~success
        state["x"] = move(x, clean, gradient, (share * epsilon)[:, None], epsilon[:, None], ball, view.bounds)
        return state

    return step
