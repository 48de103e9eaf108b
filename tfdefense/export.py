"""A model, defended or plain, as one artifact for other programs: the rejection is inside and needs no tfdefense.

Every format has a free batch size; those of a defended model have the outputs `scores`, `suspicion` and `label`, a plain
model's one output is called `output_0`.
"""

import contextlib
import importlib.util
import tempfile
from pathlib import Path

from tfdefense._files import write_file, write_folder
from tfdefense._quiet import quiet

FORMATS = ("keras", "saved_model", "onnx", "litert")
_SUFFIXES = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}


def export(model, path, format=None):
    """Writes a model in the format that the path's suffix names.

    Args:
        model: A defended model that is calibrated, or a plain Keras model.
        path: `.keras`, `.onnx` and `.tflite` name their formats; anything else becomes a SavedModel directory.
        format: "keras", "saved_model", "onnx" or "litert", whatever the path says.

    Returns:
        The path.

    Example: `td.export.export(defended, "defended.onnx")`
    """
    suffix = Path(path).suffix
    if format is None and suffix in (".h5", ".hdf5", ".pb", ".pt", ".tf"):
        raise ValueError(f"No format has the suffix {suffix}. Use .keras, .onnx or .tflite, or a directory for a SavedModel.")
    format = _SUFFIXES.get(suffix, "saved_model") if format is None else format
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(map(repr, FORMATS))}. Received: {format!r}.")
    return {"keras": keras, "saved_model": saved_model, "onnx": onnx, "litert": litert}[format](model, path)


def keras(model, path):
    """Writes a `.keras` file, which can be trained, attacked and calibrated again: `td.load(path)`."""
    path = _prepared(model, path)
    if path.suffix != ".keras":
        raise ValueError(f"Keras writes files that end in '.keras'. Received: {path}.")
    write_file(path, model.save)
    return path


def saved_model(model, path):
    """Writes a SavedModel directory with the signature `serving_default`, for TensorFlow and TensorFlow Serving."""
    path = _prepared(model, path)
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists()):
        raise ValueError(f"{path} is there already and no SavedModel. Choose another path, or remove it.")
    with quiet():
        write_folder(path, lambda new: model.export(new, verbose=False))
    return path


def onnx(model, path):
    """Writes an ONNX file. Needs `pip install tfdefense[export]`."""
    path = _prepared(model, path)
    for package in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"The export to ONNX needs {package}, which is not installed: pip install tfdefense[export]")
    import tensorflow as tf

    with quiet():
        import onnx as onnx_package
        import tf2onnx

        spec = tf.TensorSpec(model.inputs[0].shape, model.inputs[0].dtype, name=model.inputs[0].name)
        function = tf.function(lambda x: _outputs(model, x), input_signature=[spec], autograph=False)
        with _readable("ONNX"):
            proto, _ = tf2onnx.convert.from_function(
                function, [spec], custom_op_handlers={"SelectV2": (_where, []), "Select": (_where, [])}
            )
            # tf2onnx goes on past operations that it does not know; no runtime could load the result.
            onnx_package.checker.check_model(proto)
    write_file(path, lambda new: new.write_bytes(proto.SerializeToString()))
    return path


def litert(model, path):
    """Writes a LiteRT (`.tflite`) file with the signature `serving_default`."""
    path = _prepared(model, path)
    import tensorflow as tf

    if not hasattr(tf, "lite"):
        raise ImportError("This TensorFlow has no LiteRT converter. Use one that has: pip install 'tensorflow<2.22'")
    with tempfile.TemporaryDirectory() as folder, quiet():
        model.export(folder, verbose=False)
        with _readable("LiteRT"):
            content = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    write_file(path, lambda new: new.write_bytes(content))
    return path


def _prepared(model, path):
    import keras

    from tfdefense.contract import is_defended, unready

    if not isinstance(model, keras.Model):
        raise ValueError(
            f"Expected a Keras model. Received an object of type {type(model).__name__}. "
            "A SavedModel can't be converted any more: export from the `.keras` file it was made from."
        )
    if not getattr(model, "inputs", None):
        raise ValueError(
            f"Model '{model.name}' has no known input shape. Start it with `keras.Input(shape)`, or wrap it: "
            "`inputs = keras.Input(shape); keras.Model(inputs, model(inputs))`."
        )
    lack = unready(model) if is_defended(model) else None
    if lack:
        raise ValueError(lack)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _outputs(model, x):
    outputs = model(x, training=False)
    if isinstance(outputs, dict):
        return outputs
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {f"output_{index}": output for index, output in enumerate(outputs)}


def _where(context, node, name, arguments):
    # tf2onnx writes `where` as a sum of products with 0 and 1, in which one NaN or infinity spoils the branch not taken,
    # and a sample of NaN would pass as class 0.
    node.type = "Where"


@contextlib.contextmanager
def _readable(target):
    """What a converter can't do, in a sentence instead of its internals."""
    try:
        yield
    except Exception as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"The model can't be written for {target}: {reason[:300]} A SavedModel can hold every model: export to a directory."
        ) from error
