from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Bounds, Model, Samples, pairs, samples
from tfdefense.calibration import adapt, calibrate, check_images
from tfdefense.conformal import check_promise
from tfdefense.contract import base_model, bounds_of, is_defended, unready
from tfdefense.layers import AdaptableLayer, Threshold


class _Measuring(keras.callbacks.Callback):
    """Runs `step` after every epoch if asked, and at the end of training, where the weights are final.

    The end counts also when no epoch is run, and after callbacks that bring back earlier weights.
    """

    every_epoch = False

    def __init__(self) -> None:
        super().__init__()
        self._logged = False

    @property
    def measured(self) -> Model:
        """The model that is trained: what calls this may be a trainer around it, such as `td.DetectorTraining`."""
        inside = getattr(self.model, "trained", None)
        return inside if isinstance(inside, keras.Model) else self.model

    def step(self) -> dict[str, float] | None:
        """Gives the numbers to log; None where it is too early for them."""
        raise NotImplementedError

    def on_train_begin(self, logs=None):
        self._logged = False

    def on_epoch_end(self, epoch, logs=None):
        self._logged = False
        numbers = self.step() if self.every_epoch else None
        if numbers and logs is not None:
            logs.update(numbers)
            self._logged = True

    def on_train_end(self, logs=None):
        numbers = self.step() or {}
        if logs is not None:
            logs.update(numbers)
        # The history of the last epoch is written already: its entry gives way to the final number.
        history = getattr(getattr(self.model, "history", None), "history", {})
        for name, number in numbers.items():
            values = history.setdefault(name, [])
            if self._logged:
                values.pop()
            values.append(number)


class CalibrateRejection(_Measuring):
    """Sets the thresholds of a defended model at the end of training, as `td.calibrate` does. Logs `rejection`.

    List it behind `EarlyStopping(restore_best_weights=True)`, which would bring back the thresholds of an earlier epoch.

    Args:
        x: Held-out clean samples, or a data set of batches of them: those trained on look less suspicious than new ones will.
        max_rejected, confidence: Share of fresh clean samples that may be rejected, on average or with confidence.
        every_epoch: Also after every epoch, so that the validation of the next one sees thresholds that fit.
        batch_size: Samples at once; None as for `td.calibrate`.

    Example:

    >>> defended = td.ThresholdDefense().attach(model)
    >>> defended.compile(loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    >>> calibrate = td.callbacks.CalibrateRejection(x_held_out, max_rejected=0.05)
    >>> history = defended.fit(x, {"scores": y}, callbacks=[calibrate], verbose=0).history
    >>> history["rejection"][-1] <= 0.05
    True
    """

    def __init__(
        self,
        x: Samples,
        max_rejected: float = 0.05,
        *,
        confidence: float | None = None,
        every_epoch: bool = False,
        batch_size: int | None = None,
    ):
        super().__init__()
        check_promise(max_rejected, confidence)
        self.x = _samples(x)
        self.max_rejected = max_rejected
        self.confidence = confidence
        self.every_epoch = every_epoch
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        _check_samples(self)
        if not any(isinstance(layer, Threshold) for layer in self.measured.layers):
            raise ValueError(
                f"Model '{self.measured.name}' has no `td.layers.Threshold` to calibrate: its suspicion has a fixed zero. "
                "Leave CalibrateRejection out."
            )

    def step(self) -> dict[str, float]:
        if any(isinstance(layer, AdaptableLayer) and not layer.adapted for layer in self.measured.layers):
            raise ValueError(
                f"{unready(self.measured)} Or put `td.callbacks.AdaptDefense(x_train, y_train)` before CalibrateRejection."
            )
        promised: dict[str, Any] = {"max_rejected": self.max_rejected, "confidence": self.confidence}
        return {"rejection": calibrate(self.measured, self.x, **promised, batch_size=self.batch_size)}


class AdaptDefense(_Measuring):
    """Sets what is not trained by gradient at the end of training, as `td.adapt` does; thresholds are left alone.

    List it behind `EarlyStopping(restore_best_weights=True)`, and not with `every_epoch` there: how many support vectors an SVM
    has follows from the samples, so those of an earlier epoch need not fit.

    Args:
        x: Training samples, or a data set of batches (samples, classes).
        y: Their classes; None where the data set has them.
        attack: For defenses that learn from adversarial samples: what makes them, on the undefended model of that moment.
        every_epoch: Also after every epoch.
        batch_size: Samples at once; None as for `td.adapt`.

    Example:

    >>> adapt = td.callbacks.AdaptDefense(x_train, y_train)
    >>> history = defended.fit(x_train, y_train, callbacks=[adapt, td.callbacks.CalibrateRejection(x_held_out)])  # doctest: +SKIP
    """

    def __init__(
        self,
        x: Samples,
        y: ArrayLike | None = None,
        *,
        attack: Callable[..., Any] | None = None,
        every_epoch: bool = False,
        batch_size: int | None = None,
    ):
        super().__init__()
        self.x, self.y = _pairs(x, y)
        self.attack = attack
        self.every_epoch = every_epoch
        self.batch_size = batch_size

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        _check_samples(self)
        learning = [layer.name for layer in self.measured.layers if getattr(layer, "needs_adversarial", False)]
        if bool(learning) != (self.attack is not None):
            raise ValueError(
                f"Layer '{learning[0]}' learns from adversarial samples too. Pass what makes them: `attack=td.attacks.BIM(0.2)`."
                if learning
                else f"No layer of '{self.measured.name}' learns from adversarial samples. Leave `attack` out."
            )
        scores = self.measured(self.x[:1], training=False)["scores"]
        if self.params.get("epochs") and not np.isfinite(keras.ops.convert_to_numpy(scores)).all():
            raise ValueError(
                f"The scores of '{self.measured.name}' come from SVMs that are fitted after training, so there is nothing to "
                "train by yet. Train the classifier alone, then call `td.adapt(defended, x_train, y_train)`."
            )

    def step(self) -> None:
        adversarial, sources = None, None
        if self.attack is not None:
            base, bounds = base_model(self.measured), bounds_of(self.measured)
            adversarial = self.attack(base, self.x, self.y, bounds=bounds, batch_size=self.batch_size or 128).x_adv
            sources = np.arange(len(self.x))
        own: dict[str, Any] = {"adversarial": adversarial, "sources": sources}
        adapt(self.measured, self.x, self.y, max_rejected=None, batch_size=self.batch_size, **own)


class RobustAccuracy(_Measuring):
    """Attacks the model after every epoch. Logs `robust_accuracy`, the share of samples right or rejected.

    For a model that rejects it logs `robust_rejection` too, the share rejected. As long as such a model has no
    thresholds nothing is logged; the last number is that of the finished model, so callbacks that finish it come first.

    Args:
        attack: Such as `td.attacks.FGSM(0.1)`.
        x: Samples, a few hundred, or a data set of batches (samples, classes).
        y: Their classes; None where the data set has them.
        every: Attack after every so many epochs.
        bounds: Lowest and highest pixel value, for a plain model; by default (0, 1).
        batch_size: Samples at once.

    Example:

    >>> model = keras.models.clone_model(model)
    >>> model.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> attack = td.callbacks.RobustAccuracy(td.attacks.FGSM(0.1), x_held_out[:20], y_held_out[:20])
    >>> history = model.fit(x, y, callbacks=[attack], verbose=0).history
    >>> 0 <= history["robust_accuracy"][0] <= 1
    True
    """

    every_epoch = True

    def __init__(
        self,
        attack: Callable[..., Any],
        x: Samples,
        y: ArrayLike | None = None,
        *,
        every: int = 1,
        bounds: Bounds = None,
        batch_size: int = 128,
    ):
        super().__init__()
        if not callable(attack):
            raise ValueError(f"Expected an attack, such as `td.attacks.FGSM(0.1)`. Received: {type(attack).__name__}.")
        if not isinstance(every, int) or every < 1:
            raise ValueError(f"`every` must be a whole number of epochs, 1 or more. Received: {every!r}.")
        self.attack = attack
        self.x, self.y = _pairs(x, y)
        self.every = every
        self.bounds = bounds
        self.batch_size = batch_size

    def on_epoch_end(self, epoch, logs=None):
        self._logged = False
        if (epoch + 1) % self.every == 0:
            super().on_epoch_end(epoch, logs)

    def on_train_end(self, logs=None):
        # A plain model is no other than after its last epoch; a defended one may have got its thresholds since.
        if is_defended(self.measured) or not self._logged:
            super().on_train_end(logs)

    def step(self) -> dict[str, float] | None:
        from tfdefense.metrics import Outcomes

        if is_defended(self.measured) and unready(self.measured):
            return None
        result = self.attack(self.measured, self.x, self.y, bounds=self.bounds, batch_size=self.batch_size)
        outcomes = Outcomes.of(result.label, self.y, adversarial=True)
        numbers = {"robust_accuracy": outcomes.robust_accuracy}
        return numbers | ({"robust_rejection": outcomes.rejection} if is_defended(self.measured) else {})


def _samples(x):
    x = samples(x)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"Expected at least one sample. Received an array of shape {x.shape}.")
    return x


def _pairs(x, y):
    x, y = pairs(x, y)
    x = _samples(x)
    if y.shape[:1] != (len(x),):
        raise ValueError(f"Expected as many labels as samples. Received {len(x)} samples and labels of shape {y.shape}.")
    return x, y


def _check_samples(callback):
    """Before training: a mistake found at its end would cost all of it."""
    if not is_defended(callback.measured):
        raise ValueError(
            f"{type(callback).__name__} needs a defended model. Received '{callback.measured.name}', which has no rejection. "
            "Attach a defense first: `td.ThresholdDefense().attach(model)`."
        )
    try:
        check_images(callback.measured, callback.x)
    except ValueError as error:
        raise ValueError(f"{type(callback).__name__}: {error}") from None
