"""The two ends of a smoothed classifier: noisy copies of each sample, and the vote of what a network says of them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.finite import unless_finite


@keras.saving.register_keras_serializable(package="tfdefense")
class NoisyCopies(keras.layers.Layer):
    """Makes of each sample some copies with Gaussian noise, always the same noise.

    Always active. The batch becomes so many times as long, the copies of one sample next to each other. The noise follows from the
    seed alone: neither the other samples of a batch nor the format of a file change it. Differentiable.

    Args:
        sigma: Standard deviation of the noise, in the unit of the samples.
        samples: Copies of each sample.
        seed: Of the noise.

    Example:

    >>> NoisyCopies(0.5, samples=3)(np.zeros((2, 4))).shape
    TensorShape([6, 4])
    """

    def __init__(self, sigma: float, samples: int = 64, seed: int = 0, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_number("sigma", sigma, above=True)
        check_number("samples", samples, low=2, whole=True)
        check_number("seed", seed, whole=True)
        self.sigma, self.samples, self.seed = float(sigma), int(samples), int(seed)

    @property
    def copies(self) -> int:
        """How many times as long a batch becomes: what runs behind needs as much more memory."""
        return self.samples

    def build(self, input_shape):
        if len(input_shape) < 2 or None in input_shape[1:]:
            raise ValueError(
                f"The noise needs samples of one known size. Received shape {tuple(input_shape)}. "
                "Build the model with a fixed `keras.Input(shape)`."
            )
        # NumPy promises that this generator's numbers never change; of the newer ones it does not.
        noise = np.random.RandomState(self.seed).standard_normal((self.samples, *input_shape[1:]))
        self._noise = (self.sigma * noise).astype("float32")

    def call(self, x):
        noisy = ops.expand_dims(ops.cast(x, "float32"), 1) + ops.convert_to_tensor(self._noise)
        return ops.reshape(noisy, (-1, *self._noise.shape[1:]))

    def compute_output_shape(self, input_shape):
        return (None, *input_shape[1:])

    def get_config(self):
        return {**super().get_config(), "sigma": self.sigma, "samples": self.samples, "seed": self.seed}


@keras.saving.register_keras_serializable(package="tfdefense")
class NoisyVotes(keras.layers.Layer):
    """Counts which class wins on each noisy copy of a sample.

    Always active. The class scores are logarithms of the shares of votes, with one vote more for each class; softmax gives the
    shares back. The detector score is minus the statistic of a sign test of the best class against the second: for a and b votes
    (b - a) / sqrt(a + b). Votes are steps: an attacker's gradient is that of the probabilities in their place (Salman et al. 2019).

    Args:
        samples: Copies of each sample.

    Call arguments:
        scores: Class scores of the copies, shape (batch * samples, classes).

    Example:

    >>> scores, detector_score = NoisyVotes(2)(np.array([[3.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 2.0]]))
    >>> [round(float(score), 2) for score in detector_score]
    [-1.41, 0.0]
    """

    def __init__(self, samples: int, **kwargs: Any):
        kwargs.setdefault("dtype", "float32")
        super().__init__(**kwargs)
        check_number("samples", samples, low=2, whole=True)
        self.samples = int(samples)

    def call(self, scores):
        classes = scores.shape[-1]
        scores = ops.reshape(scores, (-1, self.samples, classes))
        # top_k instead of argmax: ONNX and LiteRT converters fail on argmax of floats.
        best = ops.one_hot(ops.squeeze(ops.top_k(scores, 1)[1], -1), classes, dtype="float32")
        likely = ops.sum(ops.softmax(scores, axis=-1), axis=1)
        # In this order the sum is the exact number of votes: what is added is 0 but for its gradient.
        votes = ops.sum(best, axis=1) + (likely - ops.stop_gradient(likely))
        first, second = ops.split(ops.top_k(votes, 2)[0], 2, axis=-1)
        lead = ops.squeeze((second - first) / ops.sqrt(first + second), -1)
        shares = ops.log((votes + 1.0) / (self.samples + classes))
        return unless_finite(shares, scores), unless_finite(lead, scores)

    def compute_output_spec(self, scores):
        return keras.KerasTensor((None, scores.shape[-1]), dtype="float32"), keras.KerasTensor((None,), dtype="float32")

    def get_config(self):
        return {**super().get_config(), "samples": self.samples}
