"""A LiteRT file whose network computes in whole numbers of eight bits; what decides computes in floats, as before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfdefense._validation import Model, Samples, check_number

# Operations of the network. All others stay as they are: the guard must see NaN and infinity, which whole numbers do not have.
_QUANTIZED = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN"),
    *("ADD", "RELU", "RELU6", "CONCATENATION", "DELEGATE"),
}
_RANGES = 500  # samples that the ranges of values are taken from, at most
FEWEST = 40


@dataclass(frozen=True)
class Quantized:
    """A quantised model, and what became of its labels.

    Attributes:
        content: The LiteRT file.
        changed: Share of samples whose label is another than that of the float model.
        rejected, rejected_before: Share of rejected samples, of this and of the float model.
        samples: How many were compared; none of them gave the ranges.
    """

    content: bytes
    changed: float
    rejected: float
    rejected_before: float
    samples: int

    def __str__(self):
        rates = f"rejected {self.rejected:.1%}, in floats {self.rejected_before:.1%}"
        return f"int8: the label differs on {self.changed:.2%} of {self.samples:,} samples; {rates}"


def quantized(
    model: Model,
    samples: Samples,
    write: Callable[[Path], None],
    *,
    max_changed: float = 0.02,
    recalibrate: float | None = None,
) -> Quantized:
    """Quantises a model, and compares its labels with those in floats.

    Args:
        model: A defended model that is calibrated, or a plain one.
        samples: Samples as they will come. Half of them, at most 500, give the ranges of all values, the others are compared.
        write: Writes the model as a SavedModel that LiteRT can read.
        max_changed: Share of labels that may differ; a model with more is an error.
        recalibrate: Share of fresh clean samples that may be rejected. The threshold is then set anew, on what the quantised model
            says of the samples that are compared, for that artifact alone.
    """
    from tfdefense._validation import samples as array_of
    from tfdefense.view import View, decide

    check_number("max_changed", max_changed)
    threshold = None if recalibrate is None else _one_threshold(model)
    x = View.of(model).check_shape(array_of(samples)).astype("float32")
    if len(x) < FEWEST:
        raise ValueError(f"Quantising needs at least {FEWEST} representative samples. Received {len(x)}.")
    x = x[np.random.default_rng(0).permutation(len(x))]
    ranges, compared = x[: min(_RANGES, len(x) // 2)], x[min(_RANGES, len(x) // 2) :]
    before = decide(model, compared).label
    content = _converted(model, ranges, write)
    if threshold is not None and recalibrate is not None:
        # The model keeps its own.
        own = threshold.value.numpy()
        try:
            threshold.calibrate(_ask(content, compared)["suspicion"] + own, recalibrate)
            content = _converted(model, ranges, write)
        finally:
            threshold.value.assign(own)
    after = _labels(_ask(content, compared))
    found = Quantized(
        content, float((after != before).mean()), float((after < 0).mean()), float((before < 0).mean()), len(compared)
    )
    if found.changed > max_changed:
        raise ValueError(
            f"The model was not written: {found}. At most {max_changed:.2%} may differ. Pass more representative samples, allow "
            "more by `max_changed`, or leave `quantize` out."
        )
    return found


def _converted(model, ranges, write):
    import tensorflow as tf

    debugging: Any = getattr(getattr(tf, "lite", None), "experimental", None)
    if not hasattr(debugging, "QuantizationDebugger"):
        raise ImportError("This TensorFlow can't quantise a part of a model. Use one that can: pip install 'tensorflow<2.22'")
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))

        def converter():
            return tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"])

        names, nodes = _kept(converter().convert())
        key = model.inputs[0].name

        def representative():
            for sample in ranges:
                yield "serving_default", {key: sample[None]}

        quantizing = converter()
        quantizing.optimizations, quantizing.representative_dataset = [tf.lite.Optimize.DEFAULT], representative
        quantizing.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
        options = debugging.QuantizationDebugOptions(denylisted_ops=names, denylisted_nodes=nodes)
        debugger = debugging.QuantizationDebugger(converter=quantizing, debug_dataset=representative, debug_options=options)
        return debugger.get_nondebug_quantized_model()


def _kept(content):
    """Names of operations, and of outputs of single ones, that stay in floats.

    A sum of one number a sample is one of suspicions, in which a NaN must stay one.
    """
    interpreter = _interpreter(content)
    shapes = {tensor["index"]: (tensor["name"], tensor["shape_signature"]) for tensor in interpreter.get_tensor_details()}
    operations = interpreter._get_ops_details()
    names = sorted({operation["op_name"] for operation in operations} - _QUANTIZED)
    sums = [shapes.get(index) for operation in operations if operation["op_name"] == "ADD" for index in operation["outputs"]]
    return names, [found[0] for found in sums if found and len(found[1]) < 2]


def _interpreter(content):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise ImportError(
            "A quantised model is tried by ai-edge-litert, which is not installed: pip install tfdefense[export]"
        ) from None
    return Interpreter(model_content=content)


def _ask(content, x):
    run: Any = _interpreter(content).get_signature_runner("serving_default")
    (key,) = run.get_input_details()
    parts = [run(**{key: x[start : start + 64]}) for start in range(0, len(x), 64)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _labels(found):
    return found["label"] if "label" in found else next(iter(found.values())).argmax(-1)


def _one_threshold(model):
    from tfdefense.contract import nodes_of
    from tfdefense.layers import ClassThreshold, Threshold

    found = [layer for layer, _ in nodes_of(model, Threshold)]
    if len(found) != 1 or isinstance(found[0], ClassThreshold):
        raise ValueError(
            f"Only one threshold can be set anew on a quantised model. Received {len(found)}"
            f"{', one a class' if len(found) == 1 else ''}. Leave `recalibrate` out."
        )
    return found[0]
