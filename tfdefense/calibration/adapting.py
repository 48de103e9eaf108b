"""What of a defense is not trained by gradient: `adapt` fits its layers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense import conformal
from tfdefense._cuts import Inference
from tfdefense._validation import Model, Samples, check_labels, check_same_length, is_bounded, pairs
from tfdefense.calibration.running import check_images, forget_compiled, run_batches
from tfdefense.calibration.thresholds import calibrate
from tfdefense.contract import base_model, check_sound, nodes_of, reject_node
from tfdefense.layers import AdaptableLayer, Threshold


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

    Example:

    >>> defended = td.ThresholdDefense("knn", k=10).attach(model)
    >>> defended = adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)
    >>> float((defended(x_held_out)["label"].numpy() == -1).mean()) <= 0.05
    True
    """
    reject_node(defended)
    x, y = pairs(x, y)
    x = check_images(defended, x)
    y = check_labels(y, classes=_classes(defended))
    check_same_length(x=x, y=y)
    for layer, _ in nodes_of(defended, AdaptableLayer):
        layer.check_room(len(x))
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
        features = Inference([defended.inputs[0], *(tensor for tensor, _, _ in held_out)], node.arguments.keras_tensors)
        clean = run_batches(features, [x, *(array for _, array, _ in held_out)], batch_size)
        attacked: list[np.ndarray] = []
        if adversarial is not None:
            attacked = run_batches(features, [adversarial, *(array for _, _, array in held_out)], batch_size)
        if layer.needs_adversarial:
            values = [np.concatenate(pair) for pair in zip(clean, attacked, strict=True)]
            labels = np.repeat(np.array([0, 1], "int32"), [len(x), len(adversarial)])
        else:
            values, labels = clean, y
        options: dict[str, Any] = {"pairs": np.concatenate([np.arange(len(x)), sources])} if layer.takes_pairs else {}
        if layer.takes_rate:
            options["max_rejected"] = max_rejected
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
