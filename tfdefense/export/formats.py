"""A model, defended or plain, as one artifact for other programs: the rejection is inside and needs no tfdefense.

Every format has a free batch size. A plain model's one output is called `output_0`. Those of a defended model are `scores`,
`suspicion`, `label` and, but for `.keras`, `reason`: 0 accepted, 1 suspicious, 2 invalid input (NaN, infinity, out of bounds),
3 broken model (a weight or a score that is not finite).

A SavedModel has the signature `serving_default`, which takes what the model takes, and where the model has bounds
`serve_uint8`, which takes pixels from 0 to 255. It checks its weights at each request; the other formats hold them as constants,
which are checked when they are written. A request of the wrong shape is an error; LiteRT looks only at how many numbers a sample
has. An empty batch gives an empty answer.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

from tfdefense._files import write_file, write_folder
from tfdefense._progress import quiet
from tfdefense._validation import Model, PathLike, Tensor

FORMATS = ("keras", "saved_model", "onnx", "litert")
_SUFFIXES = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}
_FOREIGN = (".h5", ".hdf5", ".pb", ".pt", ".pth", ".tf", ".ckpt", ".zip", ".npz", ".json", ".lite", ".mlmodel")


def export(model: Model, path: PathLike, format: str | None = None) -> Path:
    """Writes a model in the format that the path's suffix names.

    Args:
        model: A defended model that is calibrated, or a plain Keras model.
        path: `.keras`, `.onnx` and `.tflite` name their formats; anything else becomes a SavedModel directory.
        format: "keras", "saved_model", "onnx" or "litert", where the path does not say it.

    Returns:
        The path.

    Example: `td.export.export(defended, "defended.onnx")`
    """
    format = format or _SUFFIXES.get(Path(path).suffix.lower(), "saved_model")
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(map(repr, FORMATS))}. Received: {format!r}.")
    return {"keras": keras, "saved_model": saved_model, "onnx": onnx, "litert": litert}[format](model, path)


def keras(model: Model, path: PathLike) -> Path:
    """Writes a `.keras` file, which can be trained, attacked and calibrated again: `td.load(path)`."""
    from tfdefense.contract import DefendedModel

    path = _prepared(model, path, "keras")
    if path.suffix != ".keras":
        raise ValueError(f"Keras writes files that end in '.keras'. Received: {path}.")
    if isinstance(model, DefendedModel):
        model.save(path)  # writes whole files itself
    else:
        write_file(path, model.save)
    return path


def saved_model(model: Model, path: PathLike) -> Path:
    """Writes a SavedModel directory, for TensorFlow and TensorFlow Serving."""
    path = _prepared(model, path, "saved_model")
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists()):
        raise ValueError(f"{path} is there already and no SavedModel. Choose another path, or remove it.")
    with quiet():
        write_folder(path, lambda new: _write_saved_model(model, new, served(model), served_uint8(model)))
    return path


def onnx(model: Model, path: PathLike) -> Path:
    """Writes an ONNX file. Needs `pip install tfdefense[export]`."""
    path = _prepared(model, path, "onnx")
    for package in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"The export to ONNX needs {package}, which is not installed: pip install tfdefense[export]")
    import tensorflow as tf

    with quiet():
        import onnx as onnx_package
        import tf2onnx

        spec = _spec(model)
        function = tf.function(served(model, frozen=True), input_signature=[spec], autograph=False)
        with _readable("ONNX"), _constants():
            proto, _ = tf2onnx.convert.from_function(
                function, [spec], custom_op_handlers={"SelectV2": (_where, []), "Select": (_where, [])}
            )
            # tf2onnx goes on past operations that it does not know; no runtime could load the result.
            onnx_package.checker.check_model(proto)
    write_file(path, lambda new: new.write_bytes(proto.SerializeToString()))
    return path


def litert(model: Model, path: PathLike) -> Path:
    """Writes a LiteRT (`.tflite`) file with the signature `serving_default`."""
    path = _prepared(model, path, "litert")
    import tensorflow as tf

    if not hasattr(tf, "lite"):
        raise ImportError("This TensorFlow has no LiteRT converter. Use one that has: pip install 'tensorflow<2.22'")
    with tempfile.TemporaryDirectory() as folder, quiet():
        with _readable("LiteRT"), _constants():
            _write_saved_model(model, folder, served(model, frozen=True))
            content = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"]).convert()
    write_file(path, lambda new: new.write_bytes(content))
    return path


def served(model: Model, frozen: bool = False) -> Callable[[Tensor], dict[str, Tensor]]:
    """What an artifact computes: outputs by name from a batch, for inference.

    A batch of the wrong shape is an error: oneDNN ends the whole process over a convolution of the wrong rank. TensorFlow's
    convolutions know no empty batch either, so a sample is put in its place and its answer is left out.

    Args:
        frozen: For formats that know no operation that checks a shape. One that gives a shape fails where it can't.
    """
    import tensorflow as tf

    run, shape = _run(model), model.inputs[0].shape
    frozen = frozen and None not in shape[1:]

    def serve(x):
        count = tf.shape(x)[0]
        empty = tf.cast(count == 0, "int32")
        if frozen:
            x = tf.pad(tf.reshape(x, [count, math.prod(shape[1:])]), [[0, empty], [0, 0]])
            x = tf.reshape(x, [count + empty, *shape[1:]])
        else:
            x = tf.pad(tf.ensure_shape(x, shape), [[0, empty], *[[0, 0]] * (len(shape) - 1)])
        return {name: output[:count] for name, output in run(x).items()}

    return serve


def served_uint8(model: Model) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """The same for pixels from 0 to 255, or None where the model does not say what range they are to be moved to."""
    import tensorflow as tf

    from tfdefense._validation import is_bounded
    from tfdefense.contract import bounds_of, is_defended

    bounds = bounds_of(model) if is_defended(model) else None
    if not bounds or not is_bounded(bounds):
        return None
    serve, (low, high) = served(model), bounds

    def serve_uint8(x):
        return serve(tf.cast(tf.cast(x, "float32") / 255 * (high - low) + low, model.inputs[0].dtype))

    return serve_uint8


def _run(model):
    """The outputs of a model as a function; of a defended one with the reasons, which its graph leaves out."""
    from tfdefense.contract import InferenceModel, is_defended, reject_node

    if is_defended(model):
        reject, node = reject_node(model)
        _, scores, suspicion = node.arguments.args
        if all(output._keras_history.operation is reject for output in model.outputs):
            inner = InferenceModel(model.inputs[0], [scores, suspicion])
            return lambda x: reject.decide(x, *inner(x))
    return lambda x: _outputs(model, x)


def _spec(model, dtype=None):
    import tensorflow as tf

    image = model.inputs[0]
    return tf.TensorSpec(image.shape, dtype or image.dtype, name=image.name)


def _write_saved_model(model, folder, serve, serve_uint8=None):
    from keras.export import ExportArchive

    archive = ExportArchive()
    archive.track(model)
    # The first is `serving_default` too.
    archive.add_endpoint("serve", serve, input_signature=[_spec(model)])
    if serve_uint8:
        archive.add_endpoint("serve_uint8", serve_uint8, input_signature=[_spec(model, "uint8")])
    archive.write_out(str(folder), verbose=False)


def _constants():
    from tfdefense.layers.reject import weights_are_constants

    return weights_are_constants()


def _prepared(model, path, format):
    import keras

    from tfdefense.contract import broken, is_defended, unready

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
    suffix = Path(path).suffix.lower()
    if suffix in _FOREIGN:
        raise ValueError(f"No format has the suffix {suffix}. Use .keras, .onnx or .tflite, or a directory for a SavedModel.")
    if _SUFFIXES.get(suffix, format) != format:
        said = _SUFFIXES[suffix]
        raise ValueError(f"A name that ends in {suffix} is a file of format {said!r}. Received: {path} with format {format!r}.")
    lack = unready(model) if is_defended(model) else broken(model)
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
