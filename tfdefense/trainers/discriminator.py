"""Training a discriminator so that its bound on a ball around out-of-distribution samples is low."""

from __future__ import annotations

import keras
from keras import ops

from tfdefense._validation import Bounds, Model, check_number, checked_bounds
from tfdefense.certificates.intervals import interval_bounds
from tfdefense.graph import as_functional


class DiscriminatorTraining(keras.Model):
    """Trains the discriminator of a `td.JointDiscriminator`, whose weights it shares, on what can be proved of it.

    `fit` takes samples and 1 for in distribution, 0 for out of it. The loss is logistic: of the log-odds for those that are in, of
    the upper interval bound of the log-odds in a ball for those that are out.
    Out-of-distribution samples: `td.data.load` has sets of them.

    Args:
        discriminator: As for `td.JointDiscriminator`. Keep it small and without saturating activations: interval bounds of a deep
            network are wide.
        epsilon: Size of the ball in linf.
        weight: Of the samples out of distribution beside the others.
        ramp: Steps over which the ball grows to its size; from the start it may be too much to learn anything.
        bounds: Lowest and highest value of the inputs; None is any number.

    Example:

    >>> L = keras.layers
    >>> layers = [keras.Input((8, 8, 1)), L.Conv2D(8, 3, activation="relu"), L.Flatten(), L.Dense(1)]
    >>> trainer = DiscriminatorTraining(keras.Sequential(layers), epsilon=0.01, ramp=50)
    >>> trainer.compile("adam")
    >>> both, is_in = np.concatenate([x, 1 - x]), np.repeat([1, 0], len(x))
    >>> history = trainer.fit(both, is_in, verbose=0)

    Reference: Meinke et al., 2022, Provably adversarially robust detection of out-of-distribution data (almost) for free.
    """

    def __init__(
        self, discriminator: Model, epsilon: float = 0.01, *, weight: float = 1.0, ramp: int = 0, bounds: Bounds = (0.0, 1.0)
    ):
        inner = as_functional(discriminator)
        super().__init__(inner.inputs[0], inner.outputs[0], name=f"{inner.name}_training")
        check_number("epsilon", epsilon)
        check_number("weight", weight, above=True)
        check_number("ramp", ramp, whole=True)
        self.epsilon, self.weight, self.ramp, self.input_bounds = float(epsilon), float(weight), int(ramp), checked_bounds(bounds)
        # A layer that it has no bound of is told now.
        interval_bounds(self, *[ops.zeros((1, *inner.inputs[0].shape[1:]))] * 2)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        x, inside = ops.cast(x, "float32"), ops.cast(ops.reshape(y, (-1,)), "float32")
        epsilon = self.epsilon
        if training and self.ramp:
            epsilon = epsilon * ops.minimum((ops.cast(self.optimizer.iterations, "float32") + 1.0) / self.ramp, 1.0)
        low, high = self.input_bounds
        _, highest = interval_bounds(self, ops.clip(x - epsilon, low, high), ops.clip(x + epsilon, low, high))
        each = inside * ops.softplus(-y_pred[:, 0]) + self.weight * (1.0 - inside) * ops.softplus(highest[:, 0])
        if sample_weight is not None:
            each = each * ops.cast(ops.reshape(sample_weight, (-1,)), "float32")
        return ops.mean(each)
