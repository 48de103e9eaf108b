"""Rectified rejection: a trained head says how much of the confidence is deserved."""

from __future__ import annotations

from typing import Any

from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.defenses.last_dense import into_last_dense
from tfdefense.layers.robust import RectifiedConfidence, Rectifier


class RectifiedRejection(Defense):
    """Rejects where the confidence times the probability of a small head is low: rectified confidence.

    The head learns what share of the confidence is true confidence, the probability of the true class: their product then is that
    probability. `td.RectifiedTraining` trains it together with the classifier, on attacked samples; until then it says nothing.
    `td.calibrate` sets the threshold.

    Args:
        layer: Name of the layer whose features the head takes; None is what the last Dense layer takes.
        width, seed: See `td.layers.Rectifier`.
        threshold: A threshold of your own on the log of 1 minus the rectified confidence; None waits for `td.calibrate`.

    Example:

    >>> defended = RectifiedRejection(width=16).attach(model)
    >>> trainer = td.RectifiedTraining(defended, td.attacks.PGD(0.1, steps=2, random_start=True))
    >>> trainer.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))  # doctest: +SKIP
    >>> history = trainer.fit(x_train, y_train)  # doctest: +SKIP
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True

    Reference: Pang et al., 2022, Two coupled rejection metrics can tell adversarial examples apart.
    """

    def __init__(self, layer: str | None = None, *, width: int = 64, seed: int | None = None, threshold: float | None = None):
        self.layers, self.threshold = () if layer is None else (layer,), threshold
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        self.options: dict[str, Any] = {"width": width, "seed": seed}
        Rectifier(**self.options)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = taps[self.layers[0]] if self.layers else into_last_dense(logits, "td.RectifiedRejection(layer='name')")
        return logits, RectifiedConfidence()(Rectifier(**self.options)(features), logits)
