from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Model, Tensor
from tfdefense.calibration import run_batches
from tfdefense.defenses.defense import Defense
from tfdefense.defenses.last_dense import into_last_dense
from tfdefense.layers import KernelDensity


class DensityDefense(Defense):
    """Rejects where the training samples of the predicted class are sparse in a hidden layer: the K-density detector.

    Made for networks trained with `td.losses.ReverseCrossEntropy`, and of use on others; how far, the project's results say.
    `td.adapt` stores the training samples and chooses the bandwidth. The paper's numbers are those of its networks: on features of
    another scale they can be so wide that all samples look alike, or so narrow that only the nearest training sample counts.

    The likeliest bandwidth is chosen without any sample that is out of distribution, and may not be the best against those. Try
    the defense on some: in the last features of two small networks for ten classes of ImageNet no bandwidth from 0.03 to 100
    rejected more of the photos of rooms than of clean ones.

    Args:
        sigma: Bandwidth, see `td.layers.KernelDensity`: "auto" is chosen in `td.adapt`; the paper has (1 / 0.26) ** 0.5 after
            cross-entropy, (0.1 / 0.26) ** 0.5 after reverse cross-entropy.
        layer: Name of the hidden layer; None takes what the last Dense layer takes.
        max_points: Training samples that are stored; as many as there are makes the density exact. With fewer,
            `td.capping_error` tells the difference.
        threshold: A threshold of your own on minus the log density; None waits for `td.calibrate`.
        seed: Of the choice of stored samples where there are more, and of those that the bandwidth is chosen by.

    Example:

    >>> defended = DensityDefense(sigma=(0.1 / 0.26) ** 0.5).attach(model)
    >>> td.adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)  # doctest: +SKIP

    Reference: Pang et al., 2018, Towards robust detection of adversarial examples.
    """

    def __init__(
        self,
        sigma: float | str = "auto",
        layer: str | None = None,
        max_points: int = 10_000,
        threshold: float | None = None,
        seed: int = 0,
    ):
        self.layers = () if layer is None else (layer,)
        self.threshold = threshold
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        self.options: dict[str, Any] = {"sigma": sigma, "max_points": max_points, "seed": seed}
        KernelDensity(**self.options)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        features = taps[self.layers[0]] if self.layers else into_last_dense(logits, "td.DensityDefense(layer='name')")
        return logits, KernelDensity(**self.options)(features, logits)


def capping_error(defended: Model, x: ArrayLike, y: ArrayLike, probes: ArrayLike, *, batch_size: int | None = None) -> np.ndarray:
    """The error of a density that stores a part of the training samples: its log density less that with all of them.

    Args:
        defended: An adapted model with a `td.layers.KernelDensity` in it.
        x, y: The training samples that it was adapted on, and their classes.
        probes: Samples at which to compare, none of them among the training samples.
        batch_size: Samples at once through the network; None as for `td.adapt`.

    Returns:
        One difference of log densities for each probe: zeros where every point is stored.

    Example:

    >>> defended = DensityDefense(max_points=1000).attach(model)
    >>> td.adapt(defended, x_train, y_train, calibration=x_held_out)  # doctest: +SKIP
    >>> abs(td.capping_error(defended, x_train, y_train, x_held_out)).mean()  # doctest: +SKIP
    """
    found = [layer for layer in defended.layers if isinstance(layer, KernelDensity)]
    if not found:
        raise ValueError(f"Model '{defended.name}' has no `td.layers.KernelDensity`. Attach a `td.DensityDefense` first.")
    inner = keras.Model(defended.inputs[0], found[0].input)
    features, (there, scores) = (run_batches(inner, np.asarray(part), batch_size) for part in (x, probes))
    return found[0].capping_error(features[0], y, there, scores.argmax(-1))
