"""SafetyNet: discrete codes of late layers, and RBF-SVMs that know those of adversarial samples (rows S1 to S3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfdefense._validation import Search, Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.layers import ClasswiseDetectorSVM, DetectorSVM, Join, QuantizedReLU, Threshold


class SafetyNet(Defense):
    """Rejects what an RBF-SVM on the discrete codes of a layer calls adversarial, with one detector a layer.

    `td.adapt` needs adversarial samples too: those of attacks on the undefended model, which then also set what is unusual.
    The paper's detector A watches the last layer of ReLUs, B the one before it, C an earlier one; "A or B or C" is three
    layers with `join="any"`, "A and B" two with `join="all"`.

    The codes have no gradient. The attack that its authors use is `td.attacks.PGD` or `td.attacks.CarliniWagner` on a smooth
    surrogate, see `td.differentiable`.

    Args:
        layers: Names of layers with ReLUs, one or more.
        levels: Codes of a unit: 2 are binary, 4 quaternary, the default; see `td.layers.QuantizedReLU`. 0 takes the
            activations as they are, to see what the codes do.
        join: "any" rejects what any detector rejects, "all" what all of them reject.
        by_class: Match a sample with those of the same predicted class, see `td.layers.ClasswiseDetectorSVM`; the paper
            has one SVM for all.
        C, gamma: Of each SVM, see `td.layers.RBFSVM`. The paper's sigma is gamma = 1 / (2 sigma²).
        search: Cross-validate C and gamma for each layer: True, or a grid as a dict. A clean sample and the adversarial ones made
            of it are left out together; see `sources` of `td.adapt`. With `by_class` what suits one SVM for all classes is chosen.
        folds: Folds of that.
        thresholds: Of the codes, the same for all units; None takes quantiles of each unit's activations.
        max_samples: Of more samples than this, clean and adversarial ones together, about so many are drawn, a clean one with
            what was made of it; a warning tells the error on the others. None fits all, or refuses those whose kernel is too large.
        max_memory: Bytes that a kernel, or the codes of a layer, may take in `td.adapt`.
        threshold: A threshold of your own on every decision value, 0 in the paper; None waits for `td.calibrate`.

    Example:

    >>> defended = SafetyNet(["features"], 4).attach(model)
    >>> x_adv = td.attacks.BIM(0.2)(model, x_train, y_train).x_adv
    >>> defended = td.adapt(defended, x_train, y_train, adversarial=x_adv, calibration=x_held_out, max_rejected=0.05)
    >>> round(float((defended(x_held_out)["label"].numpy() == -1).mean()), 2) <= 0.05
    True

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly.
    """

    def __init__(
        self,
        layers: Sequence[str],
        levels: int | None = None,
        *,
        join: str = "any",
        by_class: bool = False,
        C: float = 1.0,
        gamma: float | str = "scale",
        search: Search = None,
        folds: int = 5,
        thresholds: Sequence[float] | None = None,
        max_samples: int | None = None,
        max_memory: float = 2e9,
        threshold: float | None = None,
    ):
        if isinstance(layers, str) or not layers:
            raise ValueError(f'`layers` must be one or more names of layers, such as ["dense_1"]. Received: {layers!r}.')
        if len(set(layers)) < len(layers):
            raise ValueError(f"Expected each layer once. Received: {', '.join(map(str, layers))}.")
        self.layers, self.join, self.threshold = tuple(layers), join, threshold
        self.by_class = by_class
        if levels is None and thresholds is None:
            levels = 4
        self.codes: dict[str, Any] | None = (
            None if levels == 0 and thresholds is None else {"levels": levels, "thresholds": thresholds}
        )
        self.svm: dict[str, Any] = {"C": C, "gamma": gamma, "search": search, "folds": folds, "max_memory": max_memory}
        self.svm["max_samples"] = max_samples
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        QuantizedReLU(**self.codes or {}), DetectorSVM(**self.svm), Join(join)

    def suspect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        suspicions = [Threshold(self.threshold)(self._statistic(name, taps[name], logits)) for name in self.layers]
        return logits, Join(self.join)(suspicions) if len(suspicions) > 1 else suspicions[0]

    def _statistic(self, name, activations, logits):
        try:
            codes = activations if self.codes is None else QuantizedReLU(**self.codes)(activations)
            if self.by_class:
                return ClasswiseDetectorSVM(logits.shape[-1], **self.svm)([codes, logits])
            return DetectorSVM(**self.svm)(codes)
        except ValueError as error:
            raise ValueError(f"Layer '{name}' can't be watched. {error}") from None
