"""Certified "none of these": a discriminator whose confidence on a whole ball is bounded."""

from __future__ import annotations

from tfdefense._validation import Model, Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.graph import as_functional, behind
from tfdefense.layers import Confidence
from tfdefense.layers.robust import JointProbability


class JointDiscriminator(Defense):
    """Rejects by the confidence in class *and* in distribution: what a discriminator doubts, no classifier makes sure (ProoD).

    p(y | x) = p(in | x) p(y | x, in) + (1 - p(in | x)) / classes. The discriminator alone bounds it from above, and interval bounds
    bound the discriminator in a ball around a sample: `td.certify_ood` proves that an out-of-distribution sample stays rejected
    whatever an attacker does within epsilon. The accuracy is the classifier's. Of attacks on clean samples nothing is proved.

    Train the discriminator by `td.DiscriminatorTraining`; layers that interval bounds know are those of
    `td.certificates.interval_bounds`. `td.calibrate` sets the threshold.

    Args:
        discriminator: A functional or Sequential Keras model on the classifier's input that gives one log-odds: above 0 is "in
            distribution".
        threshold: A threshold of your own on the log of 1 minus the joint confidence; None waits for `td.calibrate`.

    Example:

    >>> L = keras.layers
    >>> layers = [keras.Input((8, 8, 1)), L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(1)]
    >>> defended = JointDiscriminator(keras.Sequential(layers, name="discriminator")).attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True

    Reference: Meinke et al., 2022, Provably adversarially robust detection of out-of-distribution data (almost) for free.
    """

    def __init__(self, discriminator: Model, threshold: float | None = None):
        self.discriminator, self.threshold = as_functional(discriminator), threshold
        shape = self.discriminator.outputs[0].shape
        if len(self.discriminator.inputs) != 1 or len(shape) != 2 or shape[-1] != 1:
            raise ValueError(
                f"Expected a discriminator that gives one log-odds, shape (batch, 1). Received '{discriminator.name}' with "
                f"output shape {tuple(shape)}. End it in `keras.layers.Dense(1)`."
            )

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        input = next(node.output_tensors[0] for _, node in behind([logits]) if node.is_input)
        if input.shape != self.discriminator.inputs[0].shape:
            raise ValueError(
                f"Expected a discriminator on the classifier's input {tuple(input.shape)}. Received one on "
                f"{tuple(self.discriminator.inputs[0].shape)}."
            )
        joint = JointProbability()(self.discriminator(input), logits)
        return joint, Confidence()(joint)
