from __future__ import annotations

from typing import Any

import keras

from tfdefense._cuts.costs import multiplications
from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.layers import DetectorBranch

# Of the classifier's multiplications: a little less than the half of its time that the branch may take.
SHARE = 0.45


class AdversaryDetector(Defense):
    """Rejects what a small network on the feature maps of an inner layer takes for adversarial.

    The detector score is the branch's log-odds of "adversarial", so that a threshold of 0 is a probability of one half.
    `td.DetectorTraining` trains the branch while the classifier stays as it is; `td.calibrate` sets the threshold.

    The attack that its authors use is `td.attacks.DynamicAdversary`; `td.attacks.OrthogonalPGD` is a stronger one.

    Args:
        layer: Name of a layer with feature maps; the paper's choice is a middle one of full resolution.
        width: Feature maps of the branch's first convolution. None chooses as many as keep the defended model at 1.5 times the
            cost of the classifier, by its multiplications: a multiple of 4, at least 4, at most the paper's 96 (form "cifar") or
            196 ("imagenet"), which cost a small classifier many times its own.
        form, seed, depth: See `td.layers.DetectorBranch`.
        threshold: A threshold of your own on the log-odds; None waits for `td.calibrate`.

    Example:

    >>> defended = AdversaryDetector("conv", width=8).attach(model)
    >>> trainer = td.DetectorTraining(defended, td.attacks.DynamicAdversary(0.2))
    >>> trainer.compile()
    >>> history = trainer.fit(x_train, y_train, verbose=0)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True

    Reference: Metzen et al., 2017, On detecting adversarial perturbations.
    """

    def __init__(
        self,
        layer: str,
        *,
        form: str = "cifar",
        width: int | None = None,
        seed: int | None = None,
        threshold: float | None = None,
        depth: int | None = None,
    ):
        if not isinstance(layer, str):
            raise ValueError(f'`layer` must be the name of one layer, such as "conv_2". Received: {layer!r}.')
        self.layers, self.threshold = (layer,), threshold
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        self.options: dict[str, Any] = {"form": form, "width": width, "seed": seed, "depth": depth}
        DetectorBranch(**self.options)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        name = self.layers[0]
        layer = taps[name]._keras_history.operation
        if "channels_first" in (getattr(layer, "data_format", ""), keras.config.image_data_format()):
            raise ValueError(
                f"Layer '{name}' gives its maps with the channels first. A detector branch takes them last: build the model with "
                '`data_format="channels_last"`.'
            )
        options = dict(self.options)
        shape = taps[name].shape
        if options["width"] is None and len(shape) == 4 and None not in shape[1:]:
            most = SHARE * multiplications([logits])
            options["width"] = DetectorBranch.widest(shape, most, options["form"], options["depth"])
        try:
            return logits, DetectorBranch(**options)(taps[name])
        except ValueError as error:
            raise ValueError(f"Layer '{name}' can't be watched. {error}") from None
