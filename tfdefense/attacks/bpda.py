"""Attacks on defenses without useful gradients, along those of a differentiable surrogate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Tensor
from tfdefense.attacks.base import Attack, Batch, Candidates
from tfdefense.attacks.objectives import Objective
from tfdefense.attacks.result import AttackResult
from tfdefense.view import View

# From a smooth landscape that leads far to one that is nearly the real one: pairs of slope and width.
SCHEDULE = ((2.0, 3.0), (5.0, 2.0), (20.0, 1.0))


@dataclass(frozen=True)
class BPDA(Attack):
    """Follows the gradients of a differentiable surrogate, while the model itself judges whether a sample evades.

    Backward pass differentiable approximation: the forward pass is the model's, the backward pass the surrogate's. With
    `exact_forward=False` both are the surrogate's.

    For defenses that are hard to descend: discrete codes have no gradient, narrow kernels next to none. The surrogate is
    `td.differentiable` of the model, made anew for each stage of the schedule and attacked from where the stage before ended.

    Args:
        attack: The search, such as `PGD(0.2)` or `CarliniWagner()`. Its starts, objective and ball hold.
        schedule: Pairs of slope and width, see `td.differentiable`; slopes that grow and widths that shrink anneal the surrogate
            towards the model.
        exact_forward: Whether scores and suspicion are those of the model, and only the gradients those of the surrogate.

    Example:

    >>> search = BPDA(PGD(0.2, steps=10), schedule=[(2.0, 3.0), (20.0, 1.0)])
    >>> search.norm, search.epsilon
    ('linf', 0.2)

    References: Athalye et al., 2018, Obfuscated gradients give a false sense of security; Lu et al., 2017, SafetyNet: detecting
    and rejecting adversarial examples robustly, type II attacks, on the surrogate.
    """

    attack: Attack
    schedule: tuple = SCHEDULE
    exact_forward: bool = True

    def __post_init__(self):
        from tfdefense.layers.differentiable import check_smoothness

        if not isinstance(self.attack, Attack):
            raise ValueError(
                f"Expected an attack that searches, such as `td.attacks.PGD(0.2)`. Received: {type(self.attack).__name__}. "
                "Put those inside: `WorstCase([BPDA(one), BPDA(other)])`."
            )
        try:
            stages = tuple((float(slope), float(widen)) for slope, widen in self.schedule)
        except (TypeError, ValueError):
            stages = ()
        if not stages:
            raise ValueError(f"`schedule` must be pairs of slope and width, such as [(2.0, 3.0)]. Received: {self.schedule!r}.")
        for slope, widen in stages:
            check_smoothness("slope", slope)
            check_smoothness("width", widen)
        object.__setattr__(self, "schedule", stages)

    def __getattr__(self, name):
        # Asked only for what this class has not: an `epsilon` is there where the attack has one.
        if name.startswith("__") or name == "attack":
            raise AttributeError(name)
        return getattr(self.attack, name)

    norm = property(lambda self: self.attack.norm)
    starts = property(lambda self: self.attack.starts)
    restarts = property(lambda self: self.attack.restarts)
    seed = property(lambda self: self.attack.seed)
    default_target = property(lambda self: self.attack.default_target)
    targets = property(lambda self: self.attack.targets)

    def objective_on(self, view: View) -> Objective:
        return self.attack.objective_on(view)

    def perturb(self, batch: Batch, start: np.ndarray) -> Candidates:
        surrogate = _on_surrogate(batch.view, self.exact_forward)
        point = np.array(start, "float32")
        best: Any = None
        waiting = np.ones(len(point), bool)
        for stage in self.schedule:
            surrogate.anneal(*stage)
            rows = np.flatnonzero(waiting)
            if len(rows) == 0:
                break
            some = batch.rows(rows)
            found = self.attack.perturb(replace(some, view=surrogate), point[rows])
            point[rows] = found.x
            judged = self._judge(some, found)
            if best is None:
                best = judged
            else:
                # Of failures the last stage's is kept, which was the nearest to the real model.
                whole = judged.spread(rows, best)
                best = best.with_rows(best.beaten_by(whole) | (waiting & ~best.success), whole)
            if hasattr(self, "epsilon"):
                waiting &= ~best.success
        return Candidates(best.x_adv, best.steps, best.zero_gradient, best.label)

    def finish(self, batch: Batch, best: AttackResult) -> AttackResult:
        surrogate = _on_surrogate(batch.view, self.exact_forward)
        surrogate.anneal(*self.schedule[-1])
        return self.attack.finish(replace(batch, view=surrogate), best)

    def path(self, model: AnyModel, x: ArrayLike, y: ArrayLike, **options: Any) -> np.ndarray:
        """What the attack's own `path` gives, along the gradients of the last and hardest stage of the surrogate."""
        surrogate = _on_surrogate(View.of(model), self.exact_forward)
        surrogate.anneal(*self.schedule[-1])
        attack: Any = self.attack
        return attack.path(surrogate, x, y, **options)

    def online(self, view: View) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """The attack's own form inside a training step, on the last and hardest stage of the surrogate."""
        import tensorflow as tf

        with tf.init_scope():
            # One of its own: attacks beside the training go through stages of theirs.
            surrogate = _on_surrogate(view, self.exact_forward, self.schedule[-1])
            surrogate.anneal(*self.schedule[-1])
        return self.attack.online(surrogate)


class _OnSurrogate(View):
    """Scores and suspicion of the surrogate, with the label of the real model: searches keep what truly evades."""

    judged_elsewhere = True

    def __init__(self, real, exact_forward):
        from tfdefense.attacks.surrogate import differentiable

        if not real.is_keras:
            raise ValueError(
                f"A surrogate can be made of a Keras model. Received a {type(real.model).__name__}: attack the Keras model, and "
                "judge the result by this one with `td.attacks.Transfer(BPDA(attack), source=keras_model)`."
            )
        super().__init__(differentiable(real.model, exact_forward=exact_forward), real.bounds)
        self.real = real
        self.expect(real._few)

    def _outputs(self, x):
        scores, suspicion, _ = super()._outputs(x)
        return scores, suspicion, self.real.forward(x)[2]

    def anneal(self, slope, widen):
        from tfdefense.attacks.surrogate import anneal

        anneal(self.model, slope, widen)


# As views: few models are attacked at once, and one made anew would be compiled anew.
@lru_cache(maxsize=8)
def _on_surrogate(real, exact_forward, stage=None):
    return _OnSurrogate(real, exact_forward)


def Through(attack, schedule=SCHEDULE, straight_through=False):
    """The name of earlier versions."""
    note = "`td.attacks.Through` is now `td.attacks.BPDA`, and `straight_through` is `exact_forward`, True by default."
    warnings.warn(f"{note} The next version no longer knows the old name.", DeprecationWarning, stacklevel=2)
    return BPDA(attack, schedule, straight_through)
