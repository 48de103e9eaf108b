from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number, range_of
from tfdefense.attacks.base import Attack, Batch, Candidates, succeeds
from tfdefense.attacks.gradients import gradient_or_error
from tfdefense.attacks.objectives import CrossEntropy, Evade, LogSumExp, Margin, Objective
from tfdefense.attacks.searches.loop import search
from tfdefense.attacks.searches.projected import all_zero
from tfdefense.view import View


@dataclass(frozen=True)
class CarliniWagner(Attack):
    """Looks for the smallest l2 change: distance plus c times the objective, by Adam, with a binary search on c.

    Adam moves the pixels themselves and is put back into the bounds, where the paper has a change of variables by tanh:
    that has next to no slope at the bounds, where the background of a digit lies, and hardly moves it. How far each form gets
    stands in the results of `python -m evaluation speed`, beside libraries that have tanh.

    Args:
        steps: Iterations for each value of c. A sample whose loss has stopped falling leaves earlier.
        binary_search_steps: Values of c tried.
        kappa: How far below 0 the objective must be: confidence of the misclassification (C&W-hc has 10). A sample that is
            misclassified without any change is left alone, whatever its confidence.
        learning_rate: Of Adam, as a share of the bounds' range.
        initial_c: The first c.
        objective: What must fall below -kappa; None means `Margin()`, or `Evade()` on a model that rejects.
        early_stop: Let samples whose loss has stopped falling leave.
        starts: Where to begin, as in `PGD`.
        seed: Of random starts.

    Example:

    >>> result = CarliniWagner(steps=20, binary_search_steps=2)(model, x, y)
    >>> result.norm, bool(result.success.any())
    ('l2', True)

    Reference: Carlini and Wagner, 2017, Towards evaluating the robustness of neural networks.
    """

    steps: int = 200
    binary_search_steps: int = 5
    kappa: float = 0.0
    learning_rate: float = 0.01
    initial_c: float = 1.0
    objective: Objective | None = None
    early_stop: bool = True
    starts: tuple | str = ("sample",)
    seed: int = 0

    def __post_init__(self):
        check_number("steps", self.steps, low=1, whole=True)
        check_number("binary_search_steps", self.binary_search_steps, low=1, whole=True)
        check_number("kappa", self.kappa)
        check_number("learning_rate", self.learning_rate, above=True)
        check_number("initial_c", self.initial_c, above=True)

    def objective_on(self, view: View) -> Objective:
        # Log-sum-exp is below 0 before any class has won: the search would rest there.
        if isinstance(self.objective, CrossEntropy | LogSumExp):
            raise ValueError(
                "CarliniWagner needs an objective that is below 0 on success and nowhere else. Use `Margin()` or `Evade()`."
            )
        return self.objective or (Evade() if view.rejects else Margin())

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        view, objective, targeted = batch.view, self.objective_on(batch.view), batch.target is not None
        step = view.function(("carlini", objective, targeted), lambda: _build_step(view, objective, targeted))
        fixed = {"kappa": self.kappa, "learning_rate": self.learning_rate, "steps": self.steps, "scale": batch.scale}
        fixed = {name: tf.constant(value, tf.float32) for name, value in fixed.items()}
        samples = len(start)
        lower, upper = np.zeros(samples, "float32"), np.full(samples, np.inf, "float32")
        c = np.full(samples, self.initial_c, "float32")
        best, best_distance = np.array(start), np.full(samples, np.inf, "float32")
        spent, zero = np.zeros(samples, int), np.zeros(samples, bool)
        patience = max(1, self.steps // 10)
        for _ in range(self.binary_search_steps):
            state = self._first_state(batch, start, c, best, best_distance)
            calls = iter(range(self.steps))

            def one(state, calls=calls):
                index = next(calls)
                asked = self.early_stop and index > 0 and index % patience == 0
                return step(state, fixed, tf.constant(index + 1.0), tf.constant(asked))

            final, used = search(one, state, self.steps)
            spent += used
            zero |= final["zero"]
            best, best_distance = final["best"], final["best_distance"]
            # Small c: little weight on being misclassified, small distance.
            upper = np.where(final["found"], np.minimum(upper, c), upper)
            lower = np.where(final["found"], lower, np.maximum(lower, c))
            c = np.where(np.isfinite(upper), (lower + upper) / 2, lower * 10).astype("float32")
        failed = np.isinf(best_distance)
        if self.kappa:
            # A start may be misclassified with less confidence than was asked for: that is no success.
            best[failed] = batch.x[failed]
        elif view.judged_elsewhere:
            # The next stage of a surrogate goes on from here.
            best[failed] = final["x"][failed]
        return Candidates(best, spent, zero)

    @staticmethod
    def _first_state(batch, start, c, best, best_distance):
        arrays = {
            "mean": np.zeros_like(start),
            "square": np.zeros_like(start),
            "c": c,
            "best": best,
            "best_distance": best_distance,
            "found": np.zeros(len(start), bool),
            "checked_loss": np.full(len(start), np.inf, "float32"),
        }
        return batch.state(start) | {name: tf.constant(value) for name, value in arrays.items()}


def _build_step(view, objective, targeted):
    low, high = range_of(view.bounds, "CarliniWagner")

    def step(state, fixed, index, check_progress):
        x, aim = state["x"], state["aim"]
        wide = [-1] + [1] * (len(x.shape) - 1)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            scores, suspicion, label = view.forward(x)
            value = objective.value(scores, suspicion, aim, aim if targeted else None, fixed["scale"])
            short = tf.maximum(value + fixed["kappa"], 0)
            if view.judged_elsewhere:
                # A surrogate's boundary may lie before the real one: on, until the attack on the real model succeeds.
                short = tf.where(succeeds(label, state), short, value + fixed["kappa"])
        slope = gradient_or_error(view, tape, short, x, state.get("free"))
        # In units of the bounds, so that c means the same whatever these are. Beside a small model each operation on all pixels
        # counts: factors are put together, and where Adam has them into its rate.
        change = x - state["clean"]
        distance = tf.reduce_sum(tf.square(tf.reshape(change, [tf.shape(x)[0], -1])), -1) / (high - low) ** 2
        loss = distance + state["c"] * short
        gradient = (2 / (high - low)) * change + tf.reshape(state["c"] * (high - low), wide) * slope
        confident = value <= -fixed["kappa"]
        if view.judged_elsewhere:
            # With no confidence asked for, a success on the real model counts, whatever a surrogate says of it.
            confident |= fixed["kappa"] == 0
        success = succeeds(label, state) & confident
        closer = success & (distance < state["best_distance"])
        state = dict(state)
        state["best"] = tf.where(tf.reshape(closer, wide), x, state["best"])
        state["best_distance"] = tf.where(closer, distance, state["best_distance"])
        state["found"] |= success
        state["zero"] |= all_zero(slope) & (short != 0)
        slow = loss > 0.9999 * state["checked_loss"]
        state["done"] = check_progress & slow
        state["checked_loss"] = tf.where(check_progress, loss, state["checked_loss"])
        # Sums in place of means: 10 and 1,000 times as large.
        mean = 0.9 * state["mean"] + gradient
        square = 0.999 * state["square"] + tf.square(gradient)
        rate = 0.1 * fixed["learning_rate"] * tf.sqrt((1 - 0.999**index) / 0.001) / (1 - 0.9**index)
        # Long steps to cross over, short ones to settle on the boundary.
        rate *= 1 - 0.9 * index / fixed["steps"]
        moved = x - rate * (high - low) * mean / (tf.sqrt(square) + 1e-8 / 0.001**0.5)
        state["x"] = tf.clip_by_value(moved, low, high)
        state["mean"], state["square"] = mean, square
        return state

    return step
