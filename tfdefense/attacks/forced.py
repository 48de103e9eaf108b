"""The other aim of an attacker: that samples are rejected which would be right."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Bounds
from tfdefense.attacks.arguments import check
from tfdefense.attacks.base import Attack
from tfdefense.attacks.objectives import Margin
from tfdefense.attacks.result import AttackResult
from tfdefense.view import View, cached_view


@dataclass(frozen=True)
class ForcedRejection:
    """Perturbs samples until the model rejects them: denial of service, which a detector brings into the world.

    The search sees the model as a classifier of two classes, accepted and rejected, whose margin is the suspicion. Which class a
    sample has makes no difference. `MinimumNorm` tells the nearest such perturbation of each sample, and so of every size; its
    result goes into `td.metrics.forced_rejection` and `td.metrics.stratified_error`.

    Args:
        attack: The search, such as `MinimumNorm("l2")` or `PGD(0.1)`; without an objective of its own it takes `Margin()`.

    Example:

    >>> result = ForcedRejection(PGD(0.2, steps=5))(defended, x, y)
    >>> bool((result.label[result.success] == -1).all())
    True

    Reference: Chen et al., 2023, Stratified adversarial robustness with rejection.
    """

    attack: Attack

    def __post_init__(self):
        if not isinstance(self.attack, Attack):
            raise ValueError(
                f"Expected an attack that searches, such as `td.attacks.MinimumNorm()`. Received: {type(self.attack).__name__}."
            )

    @property
    def norm(self) -> str:
        return self.attack.norm

    def __call__(
        self, model: AnyModel, x: ArrayLike, y: ArrayLike, *, bounds: Bounds = None, batch_size: int = 128, **options: Any
    ) -> AttackResult:
        """As of any attack: what is rejected without any change is a success at distance 0.

        Returns:
            An `AttackResult` whose `success` says rejected, and whose `label` is what the model says.
        """
        view, x, y = check(model, x, y, bounds)
        if not view.rejects:
            raise ValueError(
                "A model that rejects nothing can't be made to reject. Received one without `suspicion`. Attach a defense first: "
                "`td.ThresholdDefense().attach(model)`."
            )
        search = _by_margin(self.attack)
        accepted = np.zeros(len(x), "int32")
        found = search(_acceptance(view), x, accepted, batch_size=batch_size, **options)
        parts = [view.run(found.x_adv[i : i + batch_size])[2].numpy() for i in range(0, len(x), batch_size)]
        label = np.concatenate(parts)
        return dataclasses.replace(found, label=label, success=found.success & (label == -1))


def _by_margin(attack: Any) -> Any:
    """The attack on the margin, where it has no objective of its own: a cross-entropy saturates where the suspicion is large."""
    names = {field.name for field in dataclasses.fields(attack)}
    if "attack" in names:  # one on a surrogate
        return dataclasses.replace(attack, attack=_by_margin(attack.attack))
    return dataclasses.replace(attack, objective=Margin()) if "objective" in names and attack.objective is None else attack


def _acceptance(view):
    """A model as a classifier of two classes: accepted, whose score is minus the suspicion, and rejected."""
    import tensorflow as tf

    if view.is_keras:
        return cached_view(view.model, ("acceptance", view.bounds), lambda: View(_two_classes(view.model), view.bounds))

    def scores(x):
        suspicion = view.forward(x)[1]
        return tf.stack([-suspicion, suspicion], -1)

    return View(scores, view.bounds)


def _two_classes(model):
    import keras

    from tfdefense.graph import unnoted

    # Layers with names of their own: those that Keras would find for operations are taken in a model from a file.
    with unnoted(model):
        column = keras.layers.Reshape((1,), dtype="float32", name="acceptance_column")(model.output["suspicion"])
        opposite = keras.layers.Rescaling(-1.0, dtype="float32", name="acceptance_opposite")(column)
        scores = keras.layers.Concatenate(dtype="float32", name="acceptance_scores")([opposite, column])
        return keras.Model(model.inputs[0], scores, name=f"{model.name}_acceptance")
