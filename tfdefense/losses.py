"""Losses that make adversarial examples stand out, and the one that they are compared with."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from tfdefense._validation import Tensor

# The smallest number above which float32 keeps its precision.
_TINY = 1.2e-38


class _ClassLoss(keras.losses.Loss):
    """A loss of class scores; a subclass writes `of(shares, scores)` for shares of the classes that sum to 1."""

    def __init__(
        self, from_logits: bool = True, reduction: str = "sum_over_batch_size", name: str | None = None, dtype: Any = None
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.from_logits = from_logits

    def call(self, y_true, y_pred):
        scores = ops.convert_to_tensor(y_pred)
        logits = scores if self.from_logits else _before_softmax(scores)
        scores = _in_float32(scores) if logits is None else _in_float32(logits)
        if logits is None:
            # Not at Keras's epsilon: below 1e-7 a model that is sure of a wrong class would have no gradient.
            scores = ops.log(ops.maximum(scores, _TINY))
        return self.per_sample(_shares(y_true, scores), scores)

    def per_sample(self, shares: Tensor, scores: Tensor) -> Tensor:
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "from_logits": self.from_logits}


def _in_float32(tensor):
    return ops.cast(tensor, keras.backend.result_type(tensor.dtype, "float32"))


def _before_softmax(probabilities):
    """The logits that a softmax was taken of, as Keras's own losses find them; None where they can't be reached.

    Keras leaves them on what its softmax gives, where the backend's tensors can hold more than numbers. In a TensorFlow graph
    they are the input of the operation; the loss may have cast what came out of it.
    """
    if hasattr(probabilities, "_keras_logits"):
        return probabilities._keras_logits
    # An eager tensor has no operation and says so by an AttributeError.
    operation: Any = getattr(probabilities, "op", None)
    kind = getattr(operation, "type", None)
    if kind == "Softmax":
        return operation.inputs[0]
    return _before_softmax(operation.inputs[0]) if kind in ("Cast", "Identity") else None


def _shares(y_true, scores):
    """One row of class shares a sample, from class numbers (integers, or the floats that Keras makes of them) or one-hot rows."""
    y_true, classes = ops.convert_to_tensor(y_true), scores.shape[-1]
    if len(scores.shape) != 2 or classes is None or classes < 2:
        raise ValueError(
            f"`y_pred` must be scores of at least 2 classes, shape (batch, classes). Received shape {tuple(scores.shape)}. "
            "For two classes end the model in `Dense(2)`."
        )
    if len(y_true.shape) == 2 and y_true.shape[-1] == classes:
        return ops.cast(y_true, scores.dtype)
    if len(y_true.shape) == 2 and y_true.shape[-1] == 1:
        y_true = ops.squeeze(y_true, -1)
    if len(y_true.shape) != 1:
        raise ValueError(
            f"`y_true` must be class numbers, shape (batch,), or one-hot rows, shape (batch, {classes}). "
            f"Received shape {tuple(y_true.shape)}."
        )
    # Classes are counted from 0: one that does not exist must not train in silence.
    known = ops.logical_and(y_true >= 0, y_true < classes)
    if keras.backend.is_float_dtype(y_true.dtype):
        known = ops.logical_and(known, ops.floor(y_true) == y_true)
    shares = ops.one_hot(ops.cast(y_true, "int32"), classes, dtype=scores.dtype)
    return ops.where(ops.expand_dims(known, -1), shares, ops.full_like(shares, float("nan")))


@keras.saving.register_keras_serializable(package="tfdefense")
class ReverseCrossEntropy(_ClassLoss):
    """Reverse cross-entropy: -R_y log softmax(Z), where R_y is 0 at the true class and 1 / (classes - 1) elsewhere.

    Z are the logits that are trained to be lowest at the true class. The loss takes what a model gives that ends in
    `td.layers.ReverseLogits`, which is -Z: ordinary scores, the largest of which is the class, so that accuracy and attacks
    need to know nothing of the training. Its gradient is about classes - 1 times smaller than that of cross-entropy: plain
    SGD wants a larger learning rate; Adam does not see the factor.

    Args:
        from_logits: Whether the model gives scores; otherwise probabilities, softmax(-Z).
        reduction: As in every Keras loss.
        name: Name of the loss.

    Call arguments:
        y_true: Class numbers, also as floats, or one-hot rows. A class that does not exist, such as 0.5, gives NaN.
        y_pred: Scores of shape (batch, classes).

    Example:

    >>> loss = ReverseCrossEntropy(from_logits=True)
    >>> round(float(loss(np.array([0]), np.array([[9.0, 0.0, 0.0]]))), 4)
    0.6932

    Reference: Pang et al., 2018, Towards robust detection of adversarial examples.
    """

    def __init__(
        self,
        from_logits: bool = True,
        reduction: str = "sum_over_batch_size",
        name: str = "reverse_cross_entropy",
        dtype: Any = None,
    ):
        super().__init__(from_logits, reduction, name, dtype)

    def per_sample(self, shares: Tensor, scores: Tensor) -> Tensor:
        return _reverse(shares, -scores)


@keras.saving.register_keras_serializable(package="tfdefense")
class SmoothedCrossEntropy(_ClassLoss):
    """Cross-entropy plus `weight` times the one with the reverse label: label smoothing, as reverse cross-entropy's rival.

    Equal to cross-entropy with 1 / (1 + weight) at the true class, times 1 + weight. For ordinary models, without
    `td.layers.ReverseLogits`: its optimum is biased, where that of `ReverseCrossEntropy` is not.

    Args:
        weight: The trade-off, lambda in equation 2 of the paper. 0 is plain cross-entropy.
        from_logits: Whether the model gives scores; otherwise probabilities.
        reduction: As in every Keras loss.
        name: Name of the loss.

    Example:

    >>> loss = SmoothedCrossEntropy(weight=0.0, from_logits=True)
    >>> round(float(loss(np.array([0]), np.array([[2.0, 0.0, 0.0]]))), 4)
    0.2395

    Reference: Pang et al., 2018, Towards robust detection of adversarial examples, equation 2.
    """

    def __init__(
        self,
        weight: float = 0.1,
        from_logits: bool = True,
        reduction: str = "sum_over_batch_size",
        name: str = "smoothed_cross_entropy",
        dtype: Any = None,
    ):
        super().__init__(from_logits, reduction, name, dtype)
        if not 0 <= weight < float("inf"):
            raise ValueError(f"`weight` must be a finite number of at least 0. Received: {weight!r}.")
        self.weight = weight

    def per_sample(self, shares: Tensor, scores: Tensor) -> Tensor:
        return -ops.sum(shares * ops.log_softmax(scores, axis=-1), axis=-1) + self.weight * _reverse(shares, scores)

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


@keras.saving.register_keras_serializable(package="tfdefense")
class OneVsAllHinge(_ClassLoss):
    """The squared hinge loss of one SVM a class: the true class above `margin`, every other one below -`margin`.

    What `td.layers.RBFSVM` is fitted for, as a loss for `fit` to go on with. Unlike cross-entropy it keeps the meaning of
    the scores, on which rejection stands: low everywhere is "none of these".

    Args:
        margin: Scores beyond it cost nothing.
        reduction: As in every Keras loss.
        name: Name of the loss.

    Example:

    >>> float(OneVsAllHinge()(np.array([0]), np.array([[1.0, 0.0, -2.0]])))
    1.0
    """

    def __init__(
        self, margin: float = 1.0, reduction: str = "sum_over_batch_size", name: str = "one_vs_all_hinge", dtype: Any = None
    ):
        super().__init__(True, reduction, name, dtype)
        if not 0 < margin < float("inf"):
            raise ValueError(f"`margin` must be a finite number above 0. Received: {margin!r}.")
        self.margin = margin

    def per_sample(self, shares: Tensor, scores: Tensor) -> Tensor:
        signs = 2.0 * shares - 1.0
        return ops.sum(ops.square(ops.maximum(self.margin - signs * scores, 0.0)), axis=-1)

    def get_config(self):
        config = super().get_config()
        del config["from_logits"]  # scores of SVMs are no probabilities
        return {**config, "margin": self.margin}


def _reverse(shares, scores):
    others = (1.0 - shares) / (scores.shape[-1] - 1)
    return -ops.sum(others * ops.log_softmax(scores, axis=-1), axis=-1)
