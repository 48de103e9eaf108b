"""Neural Rejection and Deep Neural Rejection: RBF-SVMs on what a classifier's layers make of a sample (rows N1 to N3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Model, Samples, Search, Tensor
from tfdefense.calibration import calibrate, forget_compiled, run_batches
from tfdefense.defenses.defense import Defense
from tfdefense.layers import RBFSVM, BestScore


class _RBFDefense(Defense):
    """RBF-SVMs whose best score decides."""

    def __init__(self, layers: Sequence[str], threshold: float | None, **options: Any):
        self.layers, self.threshold, self.options = tuple(layers), threshold, options
        # Wrong options are told here, before any layer is attached.
        RBFSVM(classes=2, **options)

    def svms(self, features: Tensor, classes: int, name: str | None = None, **options: Any) -> Tensor:
        try:
            return RBFSVM(classes, **self.options, **options)(features)
        except ValueError as error:
            if name is None:
                raise
            raise ValueError(f"Layer '{name}' can't be watched. {error}") from None


class NeuralRejection(_RBFDefense):
    """RBF-SVMs on one layer: a sample is rejected when even its best score is low.

    The attack that its authors use is `td.attacks.PGD` in l2 with `objective=td.attacks.MaximumConfidence()` and
    `starts="sample"`; `starts="all"` makes it much stronger.

    Args:
        layer: Name of the layer; None is the output layer, before its softmax.
        C, gamma: See `td.layers.RBFSVM`.
        search: Cross-validate C and gamma: True, or a grid as a dict.
        search_samples: How many samples that looks at, 2,000 unless told otherwise; None is all of them.
        folds: Folds of that.
        trainable: Whether `fit` tunes the SVMs after `td.adapt`.
        max_samples: Of more samples than this, about so many are drawn evenly from the classes, and a warning tells the error
            on the others. None fits all, or refuses at once those whose kernel is too large.
        max_memory: Bytes that the kernel, or the features, may take in `td.adapt`.
        threshold: A threshold of your own on minus the best score; None waits for `td.calibrate`.

    Example:

    >>> defended = NeuralRejection().attach(model)
    >>> defended = td.adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)
    >>> defended(x_held_out)["suspicion"].shape
    TensorShape([397])

    Reference: Melis et al., 2017, Is deep learning safe for robot vision? Adversarial examples against the iCub humanoid.
    """

    def __init__(
        self,
        layer: str | None = None,
        *,
        C: float = 1.0,
        gamma: float | str = "scale",
        search: Search = None,
        search_samples: int | None = 2000,
        folds: int = 5,
        trainable: bool = False,
        max_samples: int | None = None,
        max_memory: float = 2e9,
        threshold: float | None = None,
    ):
        layers = () if layer is None else (layer,)
        options: dict[str, Any] = {"C": C, "gamma": gamma, "search": search, "search_samples": search_samples, "folds": folds}
        options |= {"max_samples": max_samples, "max_memory": max_memory}
        super().__init__(layers, threshold, **options, trainable=trainable)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        name = self.layers[0] if self.layers else None
        features = logits if name is None else taps[name]
        scores = self.svms(features, logits.shape[-1], name)
        return scores, BestScore()(scores)


class DeepNeuralRejection(_RBFDefense):
    """RBF-SVMs on several layers, and more on their scores: a sample is rejected when even its best score is low.

    `td.adapt` fits the SVMs on each layer, then those on top by the scores that cross-validation gave: scores on
    the very samples that the first were fitted on are too good to learn from.

    The attack that its authors use is `td.attacks.PGD` in l2 with `objective=td.attacks.MaximumConfidence()` and
    `starts="sample"`; `starts="all"` makes it much stronger.

    Args:
        layers: Names of layers; the output layer is watched before its softmax.
        C, gamma: Of all SVMs, see `td.layers.RBFSVM`; "scale" is each layer's own.
        search: Cross-validate C and gamma of each layer: True, or a grid as a dict.
        search_samples: How many samples that looks at, 2,000 unless told otherwise; None is all of them.
        folds: Folds of every cross-validation.
        trainable: Whether `fit` tunes the SVMs after `td.adapt`.
        max_samples: Of more samples than this, about so many are drawn evenly from the classes, and a warning tells the error
            on the others. None fits all, or refuses at once those whose kernel is too large.
        max_memory: Bytes that a kernel, or the features of a layer, may take in `td.adapt`.
        threshold: A threshold of your own on minus the best score; None waits for `td.calibrate`.

    Example:

    >>> defended = DeepNeuralRejection(["features", "scores"]).attach(model)
    >>> defended = td.adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)
    >>> round(float((defended(x_held_out)["label"].numpy() == -1).mean()), 2)
    0.05

    Reference: Sotgiu et al., 2020, Deep neural rejection against adversarial examples.
    """

    def __init__(
        self,
        layers: Sequence[str],
        *,
        C: float = 1.0,
        gamma: float | str = "scale",
        search: Search = None,
        search_samples: int | None = 2000,
        folds: int = 5,
        trainable: bool = False,
        max_samples: int | None = None,
        max_memory: float = 2e9,
        threshold: float | None = None,
    ):
        if isinstance(layers, str) or not layers:
            raise ValueError(f'`layers` must be one or more names of layers, such as ["dense_1", "logits"]. Received: {layers!r}.')
        if len(set(layers)) < len(layers):
            raise ValueError(f"Expected each layer once. Received: {', '.join(map(str, layers))}.")
        options: dict[str, Any] = {"C": C, "gamma": gamma, "search": search, "search_samples": search_samples, "folds": folds}
        options |= {"max_samples": max_samples, "max_memory": max_memory}
        super().__init__(layers, threshold, **options, trainable=trainable)

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        classes = logits.shape[-1]
        base = [self.svms(taps[name], classes, name, cross_validated=True) for name in self.layers]
        # A name that no layer of the user's has: Keras counts those of loaded models anew.
        joined = base[0]
        if len(base) > 1:
            joined = keras.layers.Concatenate(dtype="float32", name=f"{base[0]._keras_history.operation.name}_joined")(base)
        scores = self.svms(joined, classes)
        return scores, BestScore()(scores)


def compress(
    defended: Model,
    vectors: int,
    x: ArrayLike,
    *,
    layers: Sequence[str] | None = None,
    calibration: Samples | None = None,
    max_rejected: float = 0.05,
    confidence: float | None = None,
    batch_size: int | None = None,
) -> Model:
    """Makes the RBF-SVMs of a defended model faster: fewer support vectors each, refitted to keep the scores on `x`.

    Args:
        defended: An adapted model with `td.layers.RBFSVM` in it.
        vectors: Support vectors that each layer of SVMs may keep.
        x: Samples, such as those it was adapted on.
        layers: Names of the layers of SVMs to compress; None means all.
        calibration: Held-out samples to set the thresholds anew, as the scores change a little. None leaves them.
        max_rejected, confidence: Share of fresh clean samples that may be rejected, as in `td.calibrate`.
        batch_size: Samples at once through the network; None as for `td.adapt`.

    Returns:
        The same model.

    Example:

    >>> defended = NeuralRejection().attach(model)
    >>> defended = td.adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)
    >>> defended = compress(defended, 20, x_train, calibration=x_held_out)
    >>> float((defended(x_held_out)["label"].numpy() == -1).mean()) <= 0.05
    True
    """
    svms = {layer.name: layer for layer in defended.layers if isinstance(layer, RBFSVM)}
    if not svms:
        raise ValueError(f"Model '{defended.name}' has no `td.layers.RBFSVM` to compress. Attach `td.DeepNeuralRejection` first.")
    unknown = [name for name in layers or () if name not in svms]
    if unknown:
        raise ValueError(f"`layers` must be among {', '.join(svms)}. Received {', '.join(map(repr, unknown))}.")
    chosen = [svms[name] for name in layers or svms]
    before = run_batches(keras.Model(defended.inputs[0], [layer.output for layer in chosen]), np.asarray(x), batch_size)
    for layer, scores in zip(chosen, before, strict=True):
        # Run anew for each: SVMs on top are refitted on what the compressed ones below them give.
        features = run_batches(keras.Model(defended.inputs[0], layer.input), np.asarray(x), batch_size)[0]
        layer.compress(vectors, features, scores)
    forget_compiled(defended)
    if calibration is not None:
        calibrate(defended, calibration, max_rejected=max_rejected, confidence=confidence, batch_size=batch_size)
    return defended
