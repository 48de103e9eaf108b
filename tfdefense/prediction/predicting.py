"""What a model says of sets of any size, one batch in memory at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tfdefense._progress import estimate
from tfdefense._reasons import ACCEPTED, ALL_REASONS, BROKEN, INVALID, SUSPICIOUS, UNREADABLE
from tfdefense._validation import AnyModel, Bounds, Model, check_shape, checked_names
from tfdefense.prediction.deciding import confidence_of, decider, detectors, knows_reasons
from tfdefense.prediction.devices import across, chosen
from tfdefense.prediction.sources import Batch, Wanted, batches_of, first_shape
from tfdefense.view import MOST, View, samples_at_once


@dataclass(frozen=True, eq=False, repr=False)
class Predictions:
    """What a model says of each sample: 13 bytes each, whatever the number of classes, and the name where it has one.

    Attributes:
        label: The class, or -1 = rejected.
        confidence: The largest softmax of the class scores, whether the sample is rejected or not; NaN where there is none.
        suspicion: Above 0 means rejected, +inf where the model can't judge; None of a model that rejects nothing.
        reason: Place in `td.prediction.REASONS`: accepted, suspicious, invalid input, broken model, unreadable.
        detector: Place in `detectors` of the one that rejects; -1 where none does.
        names: Names of the samples, such as paths; None where they have none.
        faults: Place -> why that sample could not be read.
        y: Labels that the samples came with; None where they had none.
        classes: Names of the classes, or None.
        detectors: Names of the detectors.
    """

    label: np.ndarray
    confidence: np.ndarray
    suspicion: np.ndarray | None
    reason: np.ndarray
    detector: np.ndarray
    names: list[str] | None = None
    faults: dict[int, str] | None = None
    y: np.ndarray | None = None
    classes: tuple[str, ...] | None = None
    detectors: tuple[str, ...] = ()

    def __len__(self):
        return len(self.label)

    def __repr__(self):
        counts = np.bincount(self.reason, minlength=len(ALL_REASONS))
        found = ", ".join(f"{count:,} {name}" for name, count in zip(ALL_REASONS, counts, strict=True) if count)
        return f"Predictions({len(self):,} samples: {found})"

    def class_name(self, place: int) -> str:
        """Name of the class of one sample, its number where classes have no names, and "" where it is rejected."""
        label = int(self.label[place])
        if label < 0:
            return ""
        return self.classes[label] if self.classes and label < len(self.classes) else str(label)

    def why(self, place: int) -> str:
        """The reason of one decision in words: of a suspicious sample with the detector, of an unreadable one with the fault."""
        reason = ALL_REASONS[self.reason[place]]
        detector = int(self.detector[place])
        if detector >= 0 and len(self.detectors) > 1:
            return f"{reason}: {self.detectors[detector]}"
        fault = (self.faults or {}).get(place)
        return f"{reason}: {fault}" if fault else reason


def stream(
    model: AnyModel,
    data: Any,
    *,
    y: Any = None,
    batch_size: int | None = None,
    bounds: Bounds = None,
    classes: Sequence[str] | None = None,
    resize: bool = False,
    devices: Sequence[str] | None = None,
    progress: bool = False,
) -> Iterator[Predictions]:
    """As `td.predict`, but gives the predictions batch by batch.

    Args:
        y: Labels beside an array, which each batch then has.
        classes: Names of the classes, of a model that does not know them.
        model, data, batch_size, bounds, resize, devices, progress: As of `td.predict`.

    Example:

    >>> sum(int((part.label == -1).sum()) for part in stream(defended, x_held_out, batch_size=64)) > 0
    True
    """
    view = View.of(model, bounds)
    own, names = _names_of(view.model), detectors(view.model)
    known = own if classes is None else checked_names(classes, view.classes)
    places = chosen(view, devices)
    run = across(view, places) if places else None
    wanted = Wanted(view.input_shape, view.bounds, batch_size or at_once(view, data) * max(1, len(places)), resize)
    total = len(data) if hasattr(data, "shape") else None
    done = 0
    with estimate(progress) if progress else contextlib.nullcontext() as tell:
        for batch in batches_of(data, wanted, y):
            yield _decided(view, batch, known, names, run)
            done += len(batch)
            if tell is not None:
                # How many there are is known of an array alone.
                tell(f"{done:,} samples", done, total or done)


def at_once(view: View, data: Any) -> int:
    """How many samples go through the network together."""
    shape = first_shape(data) or (view.input_shape or ())[1:]
    if not shape or None in shape:
        return min(MOST, 32) if not shape else MOST // 8
    return samples_at_once(view.model, np.broadcast_to(np.float32(0), (1, *shape)))


def _names_of(model):
    import keras

    from tfdefense.contract import class_names

    return class_names(model) if isinstance(model, keras.Model) else None


def _decided(view, batch: Batch, classes, names, run=None) -> Predictions:
    """The decisions of a batch, with rows in between for what could not be read."""
    count = len(batch)
    label, reason = np.full(count, -1, "int32"), np.full(count, UNREADABLE, "int8")
    confidence, detector = np.full(count, np.nan, "float32"), np.full(count, -1, "int32")
    suspicion = np.full(count, np.inf, "float32")
    rejects = True
    if batch.x is not None and len(batch.x):
        found = decided(view, batch.x, run)
        readable = np.setdiff1d(np.arange(count), list(batch.faults))
        rejects = found["suspicion"] is not None
        label[readable], reason[readable], detector[readable] = found["label"], found["reason"], found["detector"]
        confidence[readable] = confidence_of(found["scores"])
        if rejects:
            suspicion[readable] = found["suspicion"]
    extra = (batch.names, batch.faults or None, batch.y, classes, names)
    return Predictions(label, confidence, suspicion if rejects else None, reason, detector, *extra)


def decide(defended: Model, x: Any) -> dict[str, np.ndarray]:
    """What a defended model says of one batch, compiled on the first call; see `DefendedModel.decide`.

    Args:
        defended: A defended model.
        x: One batch of samples.

    Example:

    >>> sorted(decide(defended, x))
    ['detector', 'label', 'reason', 'scores', 'suspicion']
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        x = np.asarray(x)
        if x.ndim and not len(x):
            # Convolutions of TensorFlow know no empty batch.
            return {name: value[:0] for name, value in decide(defended, np.zeros((1, *x.shape[1:]), "float32")).items()}
        return decided(View.of(defended), x)
    return {name: keras.ops.convert_to_numpy(value) for name, value in decider(defended)(np.asarray(x)).items()}


def decided(view: View, x: np.ndarray, run: Callable[[np.ndarray], Any] | None = None) -> dict[str, Any]:
    """What a model says of one batch, compiled: the outputs of the contract, `reason` and `detector`.

    Args:
        run: Of `across`, which computes on several devices.
    """
    import tensorflow as tf

    x = np.asarray(x)
    check_shape(x, view.input_shape)
    x = x.astype("float32", copy=False)
    if knows_reasons(view.model):
        if run is not None:
            return run(x)
        view.expect(x)
        found = view.function("decide", lambda: decider(view.model))(tf.constant(x))
        return {name: value.numpy() for name, value in found.items()}
    scores, suspicion, label = view.run(x) if run is None else _judged(view, run(x), x)
    found = {"scores": scores.numpy(), "suspicion": None if suspicion is None else suspicion.numpy(), "label": label.numpy()}
    # What gives no reasons says at least whether it can judge. Which detector it was nobody knows.
    unsure = np.inf if suspicion is None else found["suspicion"]
    finite = np.isfinite(x).reshape(len(x), -1).all(axis=1)
    broken = np.where(finite & ~np.isfinite(found["scores"]).all(axis=1), BROKEN, INVALID)
    found["reason"] = np.where(found["label"] >= 0, ACCEPTED, np.where(np.isposinf(unsure), broken, SUSPICIOUS)).astype("int32")
    return found | {"detector": np.full(len(x), -1, "int32")}


def _judged(view, outputs, x):
    """Scores, suspicion and label from what copies of a model gave."""
    import tensorflow as tf

    view.expect(x)
    found = [tf.convert_to_tensor(output) for output in outputs]
    return view._decided(*found) if len(found) == 3 else view._decided(found[0], None, None)


def joined(parts: list[Predictions]) -> Predictions:
    """Several batches as one."""
    if not parts:
        raise ValueError("Expected at least one sample. Received none.")
    arrays: dict[str, Any] = {}
    for each in fields(Predictions):
        values = [getattr(part, each.name) for part in parts]
        if each.name in ("classes", "detectors"):
            arrays[each.name] = values[0]
        elif each.name == "faults":
            starts = np.cumsum([0, *map(len, parts)])
            pairs = [(start + place, why) for start, one in zip(starts, values, strict=False) for place, why in (one or {}).items()]
            arrays["faults"] = dict(pairs) or None
        elif any(value is None for value in values):
            # A plain model has no suspicion, where some batch of it could be read.
            arrays[each.name] = None
        elif each.name == "names":
            arrays["names"] = [name for value in values for name in value]
        else:
            arrays[each.name] = np.concatenate(values)
    return Predictions(**arrays)
