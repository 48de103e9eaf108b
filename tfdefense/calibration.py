"""What of a defense is not trained by gradient: `adapt` fits its layers, `calibrate` sets its thresholds."""

import itertools
import warnings

import keras
import numpy as np

from tfdefense._arrays import as_array
from tfdefense.contract import base_model, bounds_of, nodes_of, reject_node, unready
from tfdefense.layers import AdaptableLayer, Threshold
from tfdefense.metrics._check import labels as check_labels


def _check_share(max_rejected):
    if not 0 <= max_rejected < 1:
        raise ValueError(f"`max_rejected` must be a share in [0, 1), such as 0.05. Received: {max_rejected}.")


def check_images(defended, x):
    reject_node(defended)
    x = as_array(x)
    expected = tuple(defended.inputs[0].shape)
    if x.ndim != len(expected) or any(e not in (None, r) for e, r in zip(expected[1:], x.shape[1:], strict=True)):
        raise ValueError(f"Expected samples of shape {expected}. Received {x.shape}.")
    if len(x) == 0:
        raise ValueError("Expected at least one sample. Received an empty array.")
    low, high = bounds_of(defended)
    slack = 1e-6 * (high - low)
    if np.nanmin(x) < low - slack or np.nanmax(x) > high + slack:
        raise ValueError(
            f"Expected samples in ({low:g}, {high:g}), outside of which the model rejects. Received values in "
            f"[{np.nanmin(x):g}, {np.nanmax(x):g}]. Rescale them, or attach the defense with the bounds of your data: "
            "`attach(model, bounds=(0, 255))`."
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


def run_batches(model, x, batch_size):
    """The outputs of a model as a list of arrays, for an array or a list of them. Unlike `predict` it compiles nothing."""
    parts = []
    for start in range(0, len(x[0] if isinstance(x, list) else x), batch_size):
        part = slice(start, start + batch_size)
        batch = [array[part] for array in x] if isinstance(x, list) else x[part]
        options = {"training": False} if isinstance(model, keras.Model) else {}
        outputs = keras.tree.flatten(model(batch, **options))
        parts.append([keras.ops.convert_to_numpy(output) for output in outputs])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def adapt(defended, x, y, *, adversarial=None, calibration=None, max_rejected=0.05, batch_size=256):
    """Sets all of a defense that is not trained by gradient, then its thresholds.

    Args:
        defended: A defended model.
        x: Training samples.
        y: Their classes.
        adversarial: Adversarial samples, for layers that learn to tell them from `x`; how many of them, of which attacks, is
            yours to choose. Those that are `x` as it was, which an attack leaves alone where the model is wrong already, are
            left out.
        calibration: Held-out samples for the thresholds. Without them `x` is used, with a warning: the rate on new
            samples is then higher than promised.
        max_rejected: Share of clean samples that may be rejected. None leaves the thresholds alone. So do thresholds of your
            own where no `calibration` is given.
        batch_size: Samples at once through the network.

    Returns:
        The same model.
    """
    reject_node(defended)
    x, y = check_images(defended, x), np.asarray(y)
    if y.shape[:1] != (len(x),):
        raise ValueError(f"Expected as many labels as samples. Received {len(x)} samples and labels of shape {y.shape}.")
    y = check_labels(y, classes=_classes(defended))
    adversarial = _check_adversarial(defended, adversarial, x)
    # What is wrong with them is told before anything is changed.
    if max_rejected is not None:
        _check_share(max_rejected)
    if calibration is not None:
        calibration = check_images(defended, calibration)
    held_out = []
    for layer, node in nodes_of(defended, AdaptableLayer):
        # What a layer said of samples that it was not fitted on stands in for its output further on.
        features = _Inference([defended.inputs[0], *(tensor for tensor, _, _ in held_out)], node.arguments.keras_tensors)
        clean = run_batches(features, [x, *(array for _, array, _ in held_out)], batch_size)
        attacked = None
        if adversarial is not None:
            attacked = run_batches(features, [adversarial, *(array for _, _, array in held_out)], batch_size)
        if layer.needs_adversarial:
            values = [np.concatenate(pair) for pair in zip(clean, attacked, strict=True)]
            labels = np.repeat(np.array([0, 1], "int32"), [len(x), len(adversarial)])
        else:
            values, labels = clean, y
        unseen = layer.adapt(_alone(values), labels)
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
        calibrate(defended, calibration, max_rejected=max_rejected, batch_size=batch_size)
    return defended


def _classes(defended):
    """As many as the classifier tells apart, with a dustbin that the defense takes away."""
    return max(int(tensor.shape[-1]) for tensor in (defended.output["scores"], base_model(defended).outputs[0]))


def _alone(arrays):
    """What a layer with one input takes is no list."""
    return arrays[0] if len(arrays) == 1 else arrays


def _check_adversarial(defended, adversarial, x):
    """Adversarial samples where a layer learns from them, else None."""
    learning = [layer.name for layer, _ in nodes_of(defended, AdaptableLayer) if layer.needs_adversarial]
    if learning and adversarial is None:
        raise ValueError(
            f"Layer '{learning[0]}' learns from clean and adversarial samples. Expected both, received clean ones alone. Pass "
            "`adversarial=attack(model, x, y).x_adv`, such as those of `td.attacks.BIM(0.2)` on the undefended model."
        )
    if adversarial is not None and not learning:
        raise ValueError(f"No layer of '{defended.name}' learns from adversarial samples. Leave `adversarial` out.")
    if adversarial is None:
        return None
    adversarial = check_images(defended, adversarial)
    low, high = bounds_of(defended)
    # They may be those of several attacks on the same samples, or of some of them.
    known, near = {one.tobytes() for one in x}, 1e-6 * (high - low)
    pairs = zip(adversarial, itertools.cycle(x))
    changed = np.array([one.tobytes() not in known and not np.allclose(one, other, 0, near) for one, other in pairs])
    if not changed.any():
        raise ValueError("Expected adversarial samples. Received the clean ones. Attack them: `attack(model, x, y).x_adv`.")
    return adversarial[changed]


def forget_compiled(model):
    """Makes a model trace its functions anew: layers whose number of weights follows from data may have new variables."""
    for name in ("train", "test", "predict"):
        if getattr(model, f"{name}_function", None) is not None:
            getattr(model, f"make_{name}_function")(force=True)


def calibrate(defended, x, *, max_rejected=0.05, batch_size=256):
    """Sets the thresholds so that at most a share `max_rejected` of the clean samples `x` is rejected, by all detectors together.

    Several detectors get the same rate each, the highest at which they stay within `max_rejected` as they are joined.

    Returns:
        The share of `x` that is rejected now.
    """
    reject_node(defended)
    x = check_images(defended, x)
    _check_share(max_rejected)
    nodes = nodes_of(defended, Threshold)
    # A threshold that was given stays, where others wait for one.
    nodes = [(layer, node) for layer, node in nodes if layer.threshold is None] or nodes
    if not nodes:
        raise ValueError(f"Model '{defended.name}' has no `td.layers.Threshold` to calibrate: its suspicion has a fixed zero.")
    for layer, _ in nodes_of(defended, AdaptableLayer):
        if not layer.adapted:
            raise ValueError(unready(defended))
    statistics = [node.arguments.keras_tensors[0] for _, node in nodes]
    values = run_batches(keras.Model(defended.inputs[0], statistics), x, batch_size)
    suspicion = reject_node(defended)[1].arguments.args[2]
    fixed = [node.arguments.keras_tensors[0] for layer, node in nodes_of(defended, Threshold) if (layer, node) not in nodes]
    statistics += fixed
    values += run_batches(keras.Model(defended.inputs[0], fixed), x, batch_size) if fixed else []
    # From the statistics on, the graph is a few sums: cheap to run at many thresholds.
    decide = keras.Model(statistics if len(statistics) > 1 else statistics[0], suspicion)

    def rejected_at(count):
        for (layer, _), value in zip(nodes, values, strict=False):
            layer.calibrate(value, count / len(x))
        joined = decide(values if len(values) > 1 else values[0], training=False)
        return float(np.mean(~(keras.ops.convert_to_numpy(joined) <= 0)))

    # The highest rate is at least the share promised divided by the detectors (any), and may be near 1 (all).
    # What has no finite statistic a detector rejects at any.
    high = len(x) - 1
    lost = low = min(high, max(int(np.sum(~(value < np.inf))) for value in values[: len(nodes)]))
    if len(statistics) == 1:
        lost = low = high = int(max_rejected * len(x) + 1e-9)
    before = [keras.ops.convert_to_numpy(layer.value) for layer, _ in nodes]
    try:
        count = _highest(rejected_at, low, high, max_rejected)
        rejected = rejected_at(count)
        if rejected > max_rejected and count == lost > 0 and not fixed:
            raise ValueError(
                f"{rejected:.1%} of these samples have no finite statistic in one of the detectors and are rejected at any "
                f"threshold. Received `max_rejected={max_rejected}`. Check that they are valid inputs and that the defense is "
                "adapted."
            )
    except ValueError:
        for (layer, _), value in zip(nodes, before, strict=True):
            layer.value.assign(value)
        raise
    if rejected > max_rejected:
        warnings.warn(
            f"The thresholds that were given reject {rejected:.1%} of these samples alone, more than {max_rejected:.1%}. "
            "Leave them to `td.calibrate` (`threshold=None`), or allow more.",
            UserWarning,
            stacklevel=2,
        )
    elif 0 < max_rejected * len(x) < 1:
        warnings.warn(
            f"{max_rejected:.1%} of {len(x)} samples is less than one, so none is rejected. Calibrate on more samples.",
            UserWarning,
            stacklevel=2,
        )
    return rejected


def _highest(rejected_at, low, high, most):
    """The highest count between two at which no more than a share is rejected; the lowest where there is none."""
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if rejected_at(middle) <= most else (low, middle - 1)
    return low
