from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from tfdefense.attacks.base import Attack, Found
from tfdefense.view import View

# From a smooth landscape that leads far to one that is nearly the real one: pairs of slope and width.
SCHEDULE = ((2.0, 3.0), (5.0, 2.0), (20.0, 1.0))


@dataclass(frozen=True)
class Through(Attack):
    """Follows the gradients of a smooth surrogate, while the real model judges whether a sample evades.

    For defenses that are hard to descend: discrete codes have no gradient, narrow kernels next to none. The surrogate is
    `td.smoothed` of the model, made anew for each stage of the schedule and attacked from where the stage before ended.

    Args:
        attack: The search, such as `PGD(0.2)` or `CarliniWagner()`. Its starts, objective and ball hold.
        schedule: Pairs of slope and width, see `td.smoothed`; slopes that grow and widths that shrink anneal the surrogate
            towards the model.
        straight_through: Judge and weigh by the real scores and suspicion, and take only the gradients of the surrogate.

    Example:

    >>> search = Through(PGD(0.2, steps=10), schedule=[(2.0, 3.0), (20.0, 1.0)])
    >>> search.norm, search.epsilon
    ('linf', 0.2)

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly, type II attacks.
    """

    attack: Attack
    schedule: tuple = SCHEDULE
    straight_through: bool = False

    def __post_init__(self):
        from tfdefense.layers.smoothed import check_smoothness

        if not isinstance(self.attack, Attack):
            raise ValueError(
                f"Expected an attack that searches, such as `td.attacks.PGD(0.2)`. Received: {type(self.attack).__name__}. "
                "Put those inside: `WorstCase([Through(one), Through(other)])`."
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

    def objective_on(self, view):
        return self.attack.objective_on(view)

    def perturb(self, batch, start):
        through = _through(batch.view, self.straight_through)
        point = np.array(start, "float32")
        best, waiting = None, np.ones(len(point), bool)
        for stage in self.schedule:
            through.anneal(*stage)
            rows = np.flatnonzero(waiting)
            if len(rows) == 0:
                break
            some = batch.rows(rows)
            found = self.attack.perturb(replace(some, view=through), point[rows])
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
        return Found(best.x_adv, best.steps, best.zero_gradient, best.label)

    def path(self, model, x, y, **options):
        """What the attack's own `path` gives, along the gradients of the last and hardest stage of the surrogate."""
        through = _through(View.of(model), self.straight_through)
        through.anneal(*self.schedule[-1])
        return self.attack.path(through, x, y, **options)

    def online(self, view):
        """The attack's own form inside a training step, on the last and hardest stage of the surrogate."""
        import tensorflow as tf

        with tf.init_scope():
            # One of its own: attacks beside the training go through stages of theirs.
            through = _through(view, self.straight_through, self.schedule[-1])
            through.anneal(*self.schedule[-1])
        return self.attack.online(through)


class _Through(View):
    """Scores and suspicion of the surrogate, with the label of the real model: searches keep what truly evades."""

    judged_elsewhere = True

    def __init__(self, real, straight_through):
        from tfdefense.attacks.surrogate import smoothed

        if not real.is_keras:
            raise ValueError(
                f"A surrogate can be made of a Keras model. Received a {type(real.model).__name__}: attack the Keras model, and "
                "judge the result by this one with `td.attacks.Transfer(Through(attack), source=keras_model)`."
            )
        super().__init__(smoothed(real.model, straight_through=straight_through), real.bounds)
        self.real = real
        self.expect(real._few)

    def forward(self, x):
        scores, suspicion, _ = super().forward(x)
        return scores, suspicion, self.real.forward(x)[2]

    def anneal(self, slope, widen):
        from tfdefense.attacks.surrogate import anneal

        anneal(self.model, slope, widen)


# As views: few models are attacked at once, and one made anew would be compiled anew.
@lru_cache(maxsize=8)
def _through(real, straight_through, stage=None):
    return _Through(real, straight_through)
