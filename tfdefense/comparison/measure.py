"""How candidates are measured: all at once where they share a network, each alone under attack and against the clock."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import Any

import keras
import numpy as np

from tfdefense.calibration.running import Inference, run_batches
from tfdefense.comparison.result import UNDEFENDED
from tfdefense.contract import reject_node
from tfdefense.metrics import Outcomes, evaluate
from tfdefense.view import View, samples_at_once


class Judge:
    """Outcomes of the undefended model and of all candidates, for any samples. The network that they share runs once for all."""

    def __init__(self, model: Any, ready: dict[str, Any], batch_size: int | None):
        self.model, self.ready, self.batch_size = model, ready, batch_size
        inputs = [defended.inputs[0] for defended in ready.values()]
        self._joined = None
        self._rejects = [reject_node(defended) for defended in ready.values()]
        if all(each is inputs[0] for each in inputs):
            # The last layer of each has the same name, which one graph may not hold: it is called by hand.
            outputs = [tensor for _, call in self._rejects for tensor in call.arguments.args[1:3]]
            with contextlib.suppress(ValueError):  # Others, of one name too, are run one after the other.
                self._joined = Inference([inputs[0]], outputs)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> dict[str, Outcomes]:
        found = {UNDEFENDED: evaluate(self.model, x, y, batch_size=self.batch_size)}
        if self._joined is None:
            return found | {name: evaluate(each, x, y, batch_size=self.batch_size) for name, each in self.ready.items()}
        batch_size = self.batch_size or samples_at_once(next(iter(self.ready.values())), x)
        outputs = run_batches(self._joined, [x], batch_size)
        for index, (name, (reject, _)) in enumerate(zip(self.ready, self._rejects, strict=True)):
            scores, suspicion = outputs[2 * index : 2 * index + 2]
            said = {key: keras.ops.convert_to_numpy(value) for key, value in reject(x, scores, suspicion).items()}
            guess = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
            found[name] = Outcomes.of(said["label"], y, said["suspicion"], guess=guess)
        return found


class _Attacking:
    """Robust accuracy under one attack, the same for all candidates."""

    def __init__(self, attack, norm, size, about):
        self.attack, self.norm, self.size, self.about = attack, norm, size, about

    def __call__(self, model, part, count, required=False):
        from tfdefense.attacks.gradients import NoGradient
        from tfdefense.data.images import balanced_order

        if self.attack is None:
            return None
        rows = balanced_order(part.y, 0)[:count]
        view = View.of(model, part.bounds)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*gradient was all zeros")
            try:
                result = self.attack(view, part.x[rows], part.y[rows])
            except NoGradient:
                if required:
                    raise
                return None
        return evaluate(view, result, part.y[rows]).robust_accuracy


def robust(
    attack: Any, norm: str, epsilon: float | None, steps: int | None, seed: int, shape: Any, span: float | None
) -> _Attacking:
    """How candidates are attacked: by a suite or its name, or by an attack; None leaves it out."""
    from tfdefense.attacks import suites
    from tfdefense.attacks.norms import norm_named
    from tfdefense.reporting.plan import plan_for

    norm_named(norm)
    if epsilon is None and span is not None and norm in ("linf", "l2"):
        epsilon = float(plan_for(None, shape).compared[norm] * span)
    if attack is None:
        return _Attacking(None, norm, epsilon, {"attack": None, "epsilon": epsilon, "norm": norm})
    suite = suites.get(attack) if isinstance(attack, str) else attack
    about = {"attack": getattr(suite, "name", type(suite).__name__), "epsilon": epsilon, "norm": norm}
    if not isinstance(suite, suites.Suite):
        if not callable(suite):
            raise ValueError(f"`attack` must be a suite, its name, an attack or None. Received: {type(suite).__name__}.")
        return _Attacking(suite, norm, epsilon, about | {"epsilon": getattr(suite, "epsilon", epsilon)})
    if epsilon is None:
        raise ValueError(f"An attack in {norm} takes a size here. Pass `epsilon`, such as epsilon=0.1, or attack=None.")
    if not (np.isfinite(epsilon) and epsilon > 0):
        raise ValueError(f"`epsilon` must be a finite number above 0. Received: {epsilon}.")
    options = {"seed": seed} | ({} if steps is None else {"steps": steps})
    return _Attacking(suite.attack(epsilon, norm, **options), norm, epsilon, about | options)


def samples_of(part: Any, attacking: _Attacking, seed: int) -> dict[str, np.ndarray]:
    """Benign perturbations of the clean samples, as the report has them; none of samples without a range."""
    from tfdefense._validation import is_bounded
    from tfdefense.data import Images
    from tfdefense.reporting.material import benign
    from tfdefense.reporting.plan import Plan

    if not is_bounded(part.bounds) or attacking.size is None:
        return {}
    sizes: dict[str, Any] = {attacking.norm: (attacking.size,)}
    plan = Plan(**sizes, compared={attacking.norm: attacking.size})
    images = Images(part.x, part.y, (), part.name, "test", part.bounds)
    return {change.about["what"]: change.x for change in benign(images, plan, seed)}


def predict_ratio(model: Any, defended: Any, x: np.ndarray, times: int = 5) -> float:
    """Time of the defended model in times of the undefended one: the shortest of several looks at one batch each, in turn."""
    batch = x[:64]
    views = (View.of(model), View.of(defended))
    shortest = [np.inf, np.inf]
    for turn in range(times + 1):
        for index, view in enumerate(views):
            begun = time.perf_counter()
            [np.asarray(output) for output in view.run(batch) if output is not None]
            if turn:  # The first compiles.
                shortest[index] = min(shortest[index], time.perf_counter() - begun)
    return float(shortest[1] / shortest[0])
