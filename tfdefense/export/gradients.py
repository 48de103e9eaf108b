"""The gradient of a model as an artifact, for attacks where there is no TensorFlow: in a browser, on a device."""

from __future__ import annotations

from pathlib import Path

from tfdefense._files import write_file
from tfdefense._validation import Model, PathLike
from tfdefense.export.formats import as_onnx, prepared
from tfdefense.export.served import spec_of


def gradients(model: Model, path: PathLike) -> Path:
    """Writes an ONNX file that gives the gradient of a model with respect to its input.

    The file takes the model's input, `to_scores`, shape (batch, classes), and of a defended model `to_suspicion`, shape (batch,):
    the derivatives of an objective with respect to the outputs. It gives `gradient`, the derivative of that objective with
    respect to the input. So one file serves every objective. The outputs themselves are those of `onnx`.
    Needs `pip install tfdefense[export]`.

    Args:
        model: A defended model that is calibrated, or a plain Keras model with one output.
        path: A file that ends in `.onnx`.

    Returns:
        The path.

    Example:

    >>> gradients(defended, "gradients.onnx")  # doctest: +SKIP
    """
    import tensorflow as tf

    from tfdefense._cuts.plain_gradients import in_graph
    from tfdefense.contract import is_defended

    path = prepared(model, path, "onnx")
    if path.suffix.lower() != ".onnx":
        raise ValueError(f"Gradients are written for ONNX alone. Expected a path that ends in '.onnx'. Received: {path}.")
    names = ("scores", "suspicion") if is_defended(model) else ("scores",)
    if len(model.outputs) != 1 and len(names) == 1:
        raise ValueError(f"Expected a model with one output. Model '{model.name}' has {len(model.outputs)}.")

    def outputs(x):
        found = model(x, training=False)
        return [found[name] for name in names] if len(names) == 2 else [found[0] if isinstance(found, list | tuple) else found]

    def gradient(x, *directions):
        _, (slope,) = in_graph(outputs, x, lambda _: [list(directions)])
        if slope is None:
            raise ValueError(f"Model '{model.name}' has no gradient with respect to its input.")
        return {"gradient": slope}

    shapes = [tensor.shape for tensor in (model.output[name] for name in names)] if len(names) == 2 else [model.outputs[0].shape]
    specs = [tf.TensorSpec(shape, "float32", name=f"to_{name}") for name, shape in zip(names, shapes, strict=True)]
    content = _valid(as_onnx(gradient, spec_of(model), *specs))
    write_file(path, lambda new: new.write_bytes(content))
    return path


def _valid(content):
    """The same file without negative pads, which the converter writes for gradients of convolutions that leave the last row out.

    To cut less than nothing at the end is to add zeros there, and ONNX has an attribute for these.
    """
    import onnx

    graph = onnx.load_from_string(content)
    for node in graph.graph.node:
        pads = next((one for one in node.attribute if node.op_type == "ConvTranspose" and one.name == "pads"), None)
        if pads is None or min(pads.ints) >= 0:
            continue
        half = len(pads.ints) // 2
        if min(pads.ints[:half]) < 0:
            raise ValueError(f"ONNX has no gradient of '{node.name}': it would begin outside of its input.")
        added = [max(-one, 0) for one in pads.ints[half:]]
        kept = [one for one in node.attribute if one.name not in ("pads", "output_padding")]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("output_padding", added)])
        node.attribute.append(onnx.helper.make_attribute("pads", [max(one, 0) for one in pads.ints]))
    return graph.SerializeToString()
