"""Randomised smoothing: a classifier asked about many noisy copies of a sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdefense._validation import Tensor, check_number
from tfdefense.calibration.running import Inference
from tfdefense.defenses.defense import Defense
from tfdefense.graph import behind
from tfdefense.layers.robust import NoisyCopies, NoisyVotes


class Smoothed(Defense):
    """Answers with the majority over noisy copies of a sample, and rejects where the vote is close: randomised smoothing.

    The majority over *all* noise can't be changed by a perturbation that is short in l2, and `td.certify` proves how short.
    It is made for networks that were trained with noise of this size: the recipes `mnist_noise` and `cifar10_noise`.

    The graph asks about `samples` copies with fixed noise, drawn from the seed, so every answer is the same each time and in each
    format. The proof is about all noise, not about these draws: who knows the seed may find samples on which just these vote
    otherwise. `td.report` attacks exactly that; more copies leave less of it. A prediction costs `samples` + 1 of the network.

    Args:
        sigma: Standard deviation of the noise, in the unit of the samples.
        samples: Noisy copies of each sample.
        alpha: Rejects unless a sign test of the best class against the second tells them apart at this level, such as 0.001 as
            Cohen et al. do. None waits for `td.calibrate`.
        threshold: A threshold of your own on minus the statistic of that test, in place of `alpha`.
        seed: Of the noise.

    Example:

    >>> defended = Smoothed(sigma=0.1, samples=16).attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    >>> td.certify(defended, x[:2], y[:2], samples=200).radius.shape
    (2,)

    Reference: Cohen et al., 2019, Certified adversarial robustness via randomized smoothing.
    """

    def __init__(
        self, sigma: float, samples: int = 64, *, alpha: float | None = None, threshold: float | None = None, seed: int = 0
    ):
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        self.options: dict[str, Any] = {"sigma": sigma, "samples": samples, "seed": seed}
        NoisyCopies(**self.options)
        if alpha is not None and threshold is not None:
            raise ValueError(f"Expected `alpha` or `threshold`. Received both, {alpha!r} and {threshold!r}. Leave one out.")
        self.threshold = threshold if alpha is None else -sign_test(samples, alpha)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        # The same layers, called once more; this graph alone has that call.
        input = next(node.output_tensors[0] for _, node in behind([logits]) if node.is_input)
        noisy = NoisyCopies(**self.options)(input)
        return NoisyVotes(self.options["samples"])(Inference([input], logits).call([noisy]))


def sign_test(samples: int, alpha: float) -> float:
    """The statistic (a - b) / sqrt(a + b) beyond which a two-sided sign test tells a and b votes apart at level `alpha`.

    It holds for each a + b up to `samples`, by the exact binomial distribution: the limits differ a little from one a + b to the
    next, and the largest is taken.

    Example:

    >>> round(sign_test(100, 0.001), 2)
    3.37
    """
    from scipy.special import bdtrc

    check_number("alpha", alpha, above=True)
    if alpha >= 1:
        raise ValueError(f"`alpha` must be a number below 1, such as 0.001. Received: {alpha!r}.")
    worst = 0.0
    for both in range(1, int(samples) + 1):
        a = np.arange((both + 1) // 2, both + 1)
        # Twice the chance of a votes or more for one of two that are alike.
        alike = a[2 * bdtrc(a - 1.0, both, 0.5) > alpha]
        if len(alike):
            worst = max(worst, (2 * alike[-1] - both) / both**0.5)
    if worst >= samples**0.5:
        raise ValueError(
            f"{samples} votes can't tell two classes apart at level {alpha:g}: every sample would be rejected. "
            "Take more `samples`, or a larger `alpha`."
        )
    return float(worst)
