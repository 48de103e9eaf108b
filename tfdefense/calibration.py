"""What of a defense is not trained by gradient: `adapt` fits its layers, `calibrate` sets its thresholds."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense import conformal
from tfdefense._progress import batches
from tfdefense._validation import Model, Samples, check_labels, check_same_length, check_shape, is_bounded, pairs, samples
from tfdefense.contract import base_model, check_sound, nodes_of, reject_node, unready
from tfdefense.layers import AdaptableLayer, Threshold
from tfdefense.layers.reject import RESOLUTION
from tfdefense.view import samples_at_once


def check_images(defended: Model, x: Samples) -> np.ndarray:
    reject, _ = reject_node(defended)
    x = samples(x)
    check_shape(x, defended.inputs[0].shape)
    low, high = reject.bounds
    slack = 1e-6 * (high - low)
    # Past NaN, of which the model rejects its sample; `nanmin` warns where there is nothing else.
    least, most = np.fmin.reduce(x, axis=None), np.fmax.reduce(x, axis=None)
    if least < low - slack or most > high + slack:
        raise ValueError(
            f"Expected samples in ({low:g}, {high:g}), outside of which the model rejects. Received values in "
            f"[{least:g}, {most:g}]. Rescale them, or attach the defense with the bounds of your data: "
            "`attach(model, bounds=(0, 255))`, or `bounds=None` for features without a range."
        )
    return x


class _Inference(keras.Function):
    """A cut through a graph, run for inference. A bare function runs layers as they were called: random ones would draw.

    Not a `keras.Model`: cut through the middle of a graph, one spoils the original's input and it can't be saved.
    """

    def call(self, inputs):
        # As a model does; whole numbers would reach the first layer as they are.
        inputs = [keras.ops.cast(value, tensor.dtype) for value, tensor in zip(inputs, self.inputs, strict=True)]
        return self._run_through_graph(inputs, operation_fn=_without_training)


def _without_training(operation):
    if not isinstance(operation, keras.layers.Layer):
        return operation
    return lambda *args, **kwargs: operation(*args, **kwargs | {"training": False})


def run_batches(model: Any, x: Any, batch_size: int | None = None) -> list[np.ndarray]:
    """The outputs of a model as a list of arrays, for an array or a list of them. Unlike `predict` it compiles nothing.

    Without `batch_size` as many samples go through at once as memory allows; see `samples_at_once`.
    """
    parts, first = [], x[0] if isinstance(x, list) else x
    for part in batches(len(first), batch_size or samples_at_once(model, first)):
        batch = [array[part] for array in x] if isinstance(x, list) else x[part]
        options = {"training": False} if isinstance(model, keras.Model) else {}
        outputs = keras.tree.flatten(model(batch, **options))
        parts.append([keras.ops.convert_to_numpy(output) for output in outputs])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def adapt(
    defended: Model,
    x: Samples,
    y: ArrayLike | None = None,
    *,
    adversarial: ArrayLike | None = None,
    sources: ArrayLike | None = None,
    calibration: Samples | None = None,
    max_rejected: float | None = 0.05,
    confidence: float | None = None,
    batch_size: int | None = None,
) -> Model:
    """Sets all of a defense that is not trained by gradient, then its thresholds.

    Args:
        defended: A defended model.
        x: Training samples, or a data set of batches (samples, classes) such as a `tf.data.Dataset`, which is read into memory.
        y: Their classes; None where the data set has them.
        adversarial: Adversarial samples, for layers that learn to tell them from `x`; how many of them, of which attacks, is
            yours to choose. Those that are `x` as it was, which an attack leaves alone where the model is wrong already, are
            left out.
        sources: For each adversarial sample the row of `x` that it was made from, in any order: cross-validation leaves the two out
            together. None takes the nearest sample of `x`, which costs a look at all pairs.
        calibration: Held-out samples for the thresholds. Without them `x` is used, with a warning: the rate on new
            samples is then higher than promised.
        max_rejected, confidence: Share of fresh clean samples that may be rejected, as in `td.calibrate`. None leaves the
            thresholds alone. So do thresholds of your own where no `calibration` is given.
        batch_size: Samples at once through the network; None takes as many as keep its activations within 256 MiB, at most 256.

    Returns:
        The same model.
    """
    reject_node(defended)
    x, y = pairs(x, y)
    x = check_images(defended, x)
    y = check_labels(y, classes=_classes(defended))
    check_same_length(x=x, y=y)
    adversarial, sources = _check_adversarial(defended, adversarial, sources, x)
    # What is wrong with them is told before anything is changed.
    if max_rejected is not None:
        conformal.check_promise(max_rejected, confidence)
    if calibration is not None:
        calibration = check_images(defended, calibration)
    check_sound(defended, (AdaptableLayer, Threshold))
    held_out = []
    for layer, node in nodes_of(defended, AdaptableLayer):
        # What a layer said of samples that it was not fitted on stands in for its output further on.
        features = _Inference([defended.inputs[0], *(tensor for tensor, _, _ in held_out)], node.arguments.keras_tensors)
        clean = run_batches(features, [x, *(array for _, array, _ in held_out)], batch_size)
        attacked: list[np.ndarray] = []
        if adversarial is not None:
            attacked = run_batches(features, [adversarial, *(array for _, _, array in held_out)], batch_size)
        if layer.needs_adversarial:
            values = [np.concatenate(pair) for pair in zip(clean, attacked, strict=True)]
            labels = np.repeat(np.array([0, 1], "int32"), [len(x), len(adversarial)])
        else:
            values, labels = clean, y
        options = {"pairs": np.concatenate([np.arange(len(x)), sources])} if layer.takes_pairs else {}
        unseen = layer.adapt(_alone(values), labels, **options)
        layer.mark_adapted()
        if unseen is not None:
            of_attacked = None
            if adversarial is not None:
                # Of samples that a layer was not fitted on anyway its output can stand.
                of_attacked = unseen[len(x) :] if layer.needs_adversarial else run_batches(layer, _alone(attacked), batch_size)[0]
            held_out.append((node.output_tensors[0], unseen[: len(x)], of_attacked))
    forget_compiled(defended)
    own = [layer for layer, _ in nodes_of(defended, Threshold) if layer.threshold is None]
    # Thresholds that were all given are moved only by who asks for it.
    if max_rejected is not None and (own or calibration is not None):
        if calibration is None:
            warnings.warn(
                "The thresholds are set on the training samples, which look less suspicious than new ones will. "
                "Pass `calibration=x_held_out`.",
                UserWarning,
                stacklevel=2,
            )
            calibration = x
        calibrate(defended, calibration, max_rejected=max_rejected, confidence=confidence, batch_size=batch_size)
    return defended


def _classes(defended):
    """As many as the classifier tells apart, with a dustbin that the defense takes away."""
    return max(int(tensor.shape[-1]) for tensor in (defended.output["scores"], base_model(defended).outputs[0]))


def _alone(arrays):
    """What a layer with one input takes is no list."""
    return arrays[0] if len(arrays) == 1 else arrays


def _check_adversarial(defended, adversarial, sources, x):
    """Adversarial samples that are none of the clean ones, and their rows of `x`, where a layer learns from them; else None."""
    learning = [layer.name for layer, _ in nodes_of(defended, AdaptableLayer) if layer.needs_adversarial]
    if learning and adversarial is None:
        raise ValueError(
            f"Layer '{learning[0]}' learns from clean and adversarial samples. Expected both, received clean ones alone. Pass "
            "`adversarial=attack(model, x, y).x_adv`, such as those of `td.attacks.BIM(0.2)` on the undefended model."
        )
    if adversarial is not None and not learning:
        raise ValueError(f"No layer of '{defended.name}' learns from adversarial samples. Leave `adversarial` out.")
    if adversarial is None:
        if sources is not None:
            raise ValueError("`sources` are the rows of `x` that `adversarial` was made from. Received them alone: pass both.")
        return None, None
    adversarial = check_images(defended, adversarial)
    sources = _nearest(adversarial, x) if sources is None else _check_sources(sources, adversarial, x)
    low, high = reject_node(defended)[0].bounds
    # They may be those of several attacks on the same samples, or of some of them.
    known, near = {one.tobytes() for one in x}, 1e-6 * (high - low if is_bounded((low, high)) else np.nanmax(x) - np.nanmin(x))
    pairs = zip(adversarial, sources, strict=True)
    changed = np.array([one.tobytes() not in known and not np.allclose(one, x[row], 0, near) for one, row in pairs])
    if not changed.any():
        raise ValueError("Expected adversarial samples. Received the clean ones. Attack them: `attack(model, x, y).x_adv`.")
    return adversarial[changed], sources[changed]


def _check_sources(sources, adversarial, x):
    sources = np.asarray(sources)
    if sources.shape != (len(adversarial),) or not np.issubdtype(sources.dtype, np.integer):
        raise ValueError(
            f"Expected `sources` as a row of `x` for each of the {len(adversarial)} adversarial samples. "
            f"Received {sources.dtype} of shape {sources.shape}. Of an attack on `x[rows]` they are `rows`."
        )
    if len(sources) and not 0 <= sources.min() <= sources.max() < len(x):
        wrong = sources[(sources < 0) | (sources >= len(x))][0]
        raise ValueError(f"Expected `sources` between 0 and {len(x) - 1}, rows of `x`. Received {wrong}.")
    return sources


def _nearest(adversarial, x, block=1024):
    """The row of the clean sample that lies nearest to each adversarial one, in l2."""
    # From the middle: float32 loses digits far from the origin. What is no number is near to nothing and far from nothing.
    points, own = (np.nan_to_num(part.reshape(len(part), -1), posinf=0, neginf=0).astype("float32") for part in (x, adversarial))
    points, own = points - (middle := points.mean(0)), own - middle
    squares = np.square(points).sum(1)
    rows = [(squares - 2 * own[i : i + block] @ points.T).argmin(1) for i in range(0, len(own), block)]
    return np.concatenate(rows) if rows else np.zeros(0, int)


def forget_compiled(model: Model) -> None:
    """Makes a model trace its functions anew: layers whose number of weights follows from data may have new variables."""
    for name in ("train", "test", "predict"):
        if getattr(model, f"{name}_function", None) is not None:
            getattr(model, f"make_{name}_function")(force=True)


def calibrate(
    defended: Model, x: Samples, *, max_rejected: float = 0.05, confidence: float | None = None, batch_size: int | None = None
) -> float:
    """Sets the thresholds so that at most a share `max_rejected` of fresh clean samples is rejected, by all detectors together.

    The promise is one on samples to come that are drawn as `x` was, independently. By default the rate keeps it on average over
    draws of `x`; after one draw it may well be above. With `confidence=0.95` 95 of 100 draws give thresholds whose rate on fresh
    samples is at most `max_rejected`. `tfdefense/conformal.py` has the rule and its proof, also for joined detectors, which get
    about the same rate each.

    Args:
        defended: A defended model, adapted.
        x: Clean samples that it has not seen, or a data set of batches, as for `td.adapt`; labels in it are left out. At 5 % one
            detector needs 19 samples, 59 with `confidence=0.95`.
        max_rejected: The share promised. 0 promises nothing of fresh samples: none of `x` is rejected.
        confidence: How sure the promise must be, such as 0.95; None promises the mean.
        batch_size: Samples at once through the network; None as for `td.adapt`.

    Returns:
        The share of `x` that is rejected now.
    """
    reject_node(defended)
    x = check_images(defended, x)
    conformal.check_promise(max_rejected, confidence)
    nodes = nodes_of(defended, Threshold)
    if not nodes:
        raise ValueError(f"Model '{defended.name}' has no `td.layers.Threshold` to calibrate: its suspicion has a fixed zero.")
    for layer, _ in nodes_of(defended, AdaptableLayer):
        if not layer.adapted:
            raise ValueError(unready(defended))
    check_sound(defended, (Threshold,))
    detector_scores = [node.arguments.keras_tensors[0] for _, node in nodes]
    values = run_batches(keras.Model(defended.inputs[0], detector_scores), x, batch_size)
    # A detector that is broken for a sample, by saying NaN or -inf, has it rejected whatever the others say.
    lost = ~np.all([value > -np.inf for value in values], axis=0)
    for tensor, value in zip(detector_scores, values, strict=True):
        check_varies(tensor._keras_history.operation.name, value)
    # A threshold that was given stays, where others wait for one.
    free = [index for index, (layer, _) in enumerate(nodes) if layer.threshold is None] or list(range(len(nodes)))
    decide = _joined(defended, nodes, values, free)
    scores = np.where(lost, np.nan, [values[index] for index in free])
    given = decide(np.zeros(scores.shape, bool)) & ~lost
    try:
        found = conformal.thresholds(scores, decide, max_rejected, confidence)
    except conformal.NoRoom:
        if not given.any() or not np.isfinite(scores).any(axis=1).all():
            raise
        warnings.warn(
            f"The thresholds that were given reject {given.mean():.1%} of these samples alone: it can't be promised that "
            f"{conformal.promise(max_rejected, confidence)}. Leave them to `td.calibrate` (`threshold=None`), or allow more.",
            UserWarning,
            stacklevel=2,
        )
        # The others add nothing to it.
        found = np.where(np.isfinite(scores), scores, -np.inf).max(axis=1)
    for index, value in zip(free, found, strict=True):
        nodes[index][0].place(value, values[index])
    return float(np.mean(lost | decide(np.stack([_rejects(nodes[index][0], values[index]) for index in free]))))


def _rejects(layer, score):
    """Whether a detector rejects each sample; what is no number is rejected."""
    return ~(keras.ops.convert_to_numpy(layer(score)) <= 0)


def _joined(defended, nodes, values, free):
    """The function from what each of the detectors `free` rejects to what the whole model rejects."""
    tensors = [node.output_tensors[0] for _, node in nodes]
    # From the thresholds on, the graph is a few comparisons: cheap to run.
    join = keras.Function(tensors, reject_node(defended)[1].arguments.args[2])
    rejects = [_rejects(layer, value) for (layer, _), value in zip(nodes, values, strict=True)]

    def decide(of_free):
        decisions = dict(enumerate(rejects)) | dict(zip(free, of_free, strict=True))
        joined = join([np.where(decisions[index], 1.0, -1.0).astype("float32") for index in range(len(nodes))])
        return keras.ops.convert_to_numpy(joined) > 0

    return decide


def check_varies(name: str, score: np.ndarray) -> None:
    """Refuses a detector whose score is the same for all calibration samples: no threshold makes it tell anything apart."""
    finite = score[np.isfinite(score)]
    if len(finite) < 2:
        return
    low, high = float(finite.min()), float(finite.max())
    if high - low <= RESOLUTION * max(1.0, abs(low), abs(high)):
        raise ValueError(
            f"The detector score of layer '{name}' is {high:.6g} for all {len(finite)} calibration samples, so no threshold tells "
            "anything apart. Check that the network is trained and the defense adapted to it; then watch another layer, or, for a "
            "density, give another `sigma`."
        )
