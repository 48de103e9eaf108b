"""Radii of randomised smoothing, by counting votes under fresh noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Model, Samples, check_labels, check_number, check_same_length
from tfdefense.calibration.running import Inference, check_images, run_batches
from tfdefense.contract import bounds_of, check_sound, is_defended, nodes_of, reject_node
from tfdefense.graph import behind
from tfdefense.layers.robust import NoisyCopies, NoisyVotes
from tfdefense.view import samples_at_once


@dataclass(frozen=True)
class Certified:
    """What `certify` has proved of each sample.

    Attributes:
        label: The class of the smoothed classifier, or -1 where the votes prove none.
        radius: The length in l2 of a perturbation up to which this stays its class; 0 where none is proved.
        y: The true classes.
        sigma: Of the noise.
        alpha: Each radius is wrong with at most this probability.
        samples: Votes on each sample.
    """

    label: np.ndarray
    radius: np.ndarray
    y: np.ndarray
    sigma: float
    alpha: float
    samples: int

    @property
    def right(self) -> np.ndarray:
        return self.label == self.y

    def accuracy(self, size: float = 0.0) -> float:
        """The share of samples whose class is proved right for every perturbation of up to `size`: certified accuracy."""
        return float((self.right & (self.radius > size)).mean())

    def curve(self, sizes: ArrayLike) -> np.ndarray:
        """Certified accuracy at each size."""
        return np.array([self.accuracy(size) for size in np.asarray(sizes, float)])


def certify(
    defended: Model,
    x: Samples,
    y: ArrayLike,
    *,
    alpha: float = 0.001,
    select: int = 100,
    samples: int = 10_000,
    seed: int = 0,
    batch_size: int | None = None,
) -> Certified:
    """Proves for each sample how long a perturbation must be in l2 to change the class of a smoothed classifier.

    Fresh noise, not that of the model's own graph: some votes choose the class, others bound its probability from below by Clopper
    and Pearson, and the radius is sigma times the normal quantile of that bound. It speaks of the majority over all noise. The
    graph's fixed copies are a sample of that. An attacker who fits a perturbation to those very copies is not bound by the radius:
    look at the robust accuracy under attack, too.

    A perturbation may lead out of the model's bounds, where it is rejected in any case.

    Args:
        defended: A model with a `td.Smoothed`, which gives its class scores: alone, or as the first of `td.AnyOf`. What the others
            reject counts as neither right nor wrong here.
        x, y: Samples and their classes.
        alpha: Probability with which a radius may be wrong, for each sample.
        select: Votes that choose the class.
        samples: Votes that bound its probability. The largest radius that they can prove is sigma times 3.2 for 10,000, 3.8 for
            100,000.
        seed: Of the noise.
        batch_size: Copies at once through the network; None takes as many as keep its activations within 256 MiB.

    Returns:
        A `Certified`: `found.accuracy(0.5)`, `found.radius`.

    Example:

    >>> defended = td.Smoothed(0.1, samples=16).attach(model)
    >>> found = td.certify(defended, x, y, samples=500)
    >>> found.accuracy(0.5) <= found.accuracy(0.1) <= found.accuracy()
    True

    Reference: Cohen et al., 2019, Certified adversarial robustness via randomized smoothing, section 3.2.2.
    """
    from scipy.special import ndtri

    if not is_defended(defended):
        raise ValueError(
            f"Expected a model with `td.Smoothed`. '{defended.name}' has no defense: `td.Smoothed(0.5).attach(model)`."
        )
    layer, voters = _voters(defended)
    x = check_images(defended, x)
    y = check_labels(y, classes=defended.output["scores"].shape[-1])
    check_same_length(x=x, y=y)
    check_number("select", select, low=1, whole=True)
    check_number("samples", samples, low=1, whole=True)
    check_level(alpha)
    check_sound(defended)
    batch_size = batch_size or samples_at_once(voters, x, most=4096)
    label, radius = np.full(len(x), -1, "int32"), np.zeros(len(x))
    for number, image in enumerate(x):
        # Of each sample by itself, so that its radius depends on no other.
        rng = np.random.default_rng([seed, number])
        best = int(_votes(voters, image, select, layer.sigma, rng, batch_size).argmax())
        count = int(_votes(voters, image, samples, layer.sigma, rng, batch_size)[best])
        least = lower_bound(count, samples, alpha)
        if least > 0.5:
            label[number], radius[number] = best, layer.sigma * float(ndtri(least))
    return Certified(label, radius, y, layer.sigma, float(alpha), int(samples))


def lower_bound(count: int, samples: int, alpha: float) -> float:
    """A lower bound of a probability from draws, by Clopper and Pearson.

    Example:

    >>> round(lower_bound(100, 100, 0.001), 4), lower_bound(0, 100, 0.001)
    (0.9333, 0.0)

    Args:
        count: How often it happened.
        samples: Number of draws.
        alpha: Probability with which the bound may be wrong.
    """
    from scipy.special import betaincinv

    return float(betaincinv(count, samples - count + 1, alpha)) if count else 0.0


def check_level(alpha: float) -> None:
    check_number("alpha", alpha, above=True)
    if alpha >= 1:
        raise ValueError(f"`alpha` must be a number below 1, such as 0.001. Received: {alpha!r}.")


def is_smoothed(model: Any) -> bool:
    """Whether `certify` can say something of a model: the class scores are those of a `td.Smoothed`."""
    # One that was built by hand has no `td.layers.Reject`, and says nothing of itself.
    return is_defended(model) and bounds_of(model) is not None and bool(_votes_of(model))


def _votes_of(defended):
    """The call that counts the votes, in a list; none where the class is not that of the vote."""
    _, call = reject_node(defended)
    return [node for _, node in nodes_of(defended, NoisyVotes) if node.output_tensors[0] is call.arguments.args[1]]


def _voters(defended):
    """The layer that makes noisy copies, and the network that votes on them."""
    own = _votes_of(defended)
    if not own:
        calls = nodes_of(defended, NoisyVotes)
        hint = "make it the first: `td.AnyOf(td.Smoothed(0.5), ...)`" if calls else "attach one: `td.Smoothed(0.5).attach(model)`"
        raise ValueError(f"Expected class scores of a `td.Smoothed`. Those of '{defended.name}' are of another layer: {hint}.")
    logits = own[0].arguments.keras_tensors[0]
    ((layer, copies),) = [pair for pair in nodes_of(defended, NoisyCopies) if any(node is pair[1] for _, node in behind([logits]))]
    return layer, Inference([copies.output_tensors[0]], logits)


def _votes(network, image, number, sigma, rng, batch_size):
    """How often each class wins on fresh noisy copies. A copy whose scores are no numbers votes for none."""
    noise = rng.standard_normal((number, *image.shape), dtype="float32")
    (scores,) = run_batches(network, [image.astype("float32") + np.float32(sigma) * noise], batch_size)
    sure = np.isfinite(scores).all(-1)
    return np.bincount(scores[sure].argmax(-1), minlength=scores.shape[-1])
