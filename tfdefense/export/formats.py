"""One function a format."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfdefense._files import plain, write_file, write_folder
from tfdefense._progress import quiet
from tfdefense._validation import Model, PathLike, Samples, Tensor
from tfdefense.export.int8 import quantized
from tfdefense.export.served import served, served_image, served_threshold, served_uint8, spec_of

FORMATS = ("keras", "saved_model", "onnx", "litert")
_SUFFIXES = {".keras": "keras", ".onnx": "onnx", ".tflite": "litert"}
_OPTIONS = {"saved_model": ("decode", "resize"), "litert": ("quantize", "max_changed", "recalibrate")}
_FOREIGN = (".h5", ".hdf5", ".pb", ".pt", ".pth", ".tf", ".ckpt", ".zip", ".npz", ".json", ".lite", ".mlmodel")


def export(model: Model, path: PathLike, format: str | None = None, **options: Any) -> Path:
    """Writes a model in the format that the path's suffix names.

    Args:
        model: A defended model that is calibrated, or a plain Keras model.
        path: `.keras`, `.onnx` and `.tflite` name their formats; anything else becomes a SavedModel directory.
        format: "keras", "saved_model", "onnx" or "litert", where the path does not say it.
        options: Of a SavedModel `decode` and `resize`, see `saved_model`; of LiteRT `quantize`, see `litert`.

    Returns:
        The path.

    Example:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> export(defended, folder / "defended.keras").name
    'defended.keras'
    """
    format = format or _SUFFIXES.get(Path(path).suffix.lower(), "saved_model")
    if format not in FORMATS:
        raise ValueError(f"`format` must be one of {', '.join(map(repr, FORMATS))}. Received: {format!r}.")
    write = {"keras": keras, "saved_model": saved_model, "onnx": onnx, "litert": litert}[format]
    for name in options:
        if name not in _OPTIONS.get(format, ()):
            has = "; ".join(f"{own!r} has {', '.join(names)}" for own, names in _OPTIONS.items())
            raise ValueError(f"The format {format!r} has no option `{name}`. Expected none, or another format: {has}.")
    return write(model, path, **options)


def keras(model: Model, path: PathLike) -> Path:
    """Writes a `.keras` file, which can be trained, attacked and calibrated again: `td.load(path)`.

    Args:
        model, path: As of `export`.

    Example:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> td.load(td.export.keras(defended, folder / "defended.keras"))(x)["label"].shape
    TensorShape([8])
    """
    from tfdefense.contract import DefendedModel

    path = prepared(model, path, "keras")
    if path.suffix != ".keras":
        raise ValueError(f"Keras writes files that end in '.keras'. Received: {path}.")
    if isinstance(model, DefendedModel):
        model.save(path)  # writes whole files itself
    else:
        write_file(path, model.save)
    return path


def saved_model(model: Model, path: PathLike, *, decode: bool = False, resize: bool = False) -> Path:
    """Writes a SavedModel directory, for TensorFlow and TensorFlow Serving.

    Args:
        model, path: As of `export`.
        decode: Whether it also has the signature `serve_image`, which takes JPEG and PNG files.
        resize: The same, for pictures of any size.

    Example:

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> saved_model(defended, folder / "served").name
    'served'
    """
    path = prepared(model, path, "saved_model")
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").exists()):
        raise ValueError(f"{path} is there already and no SavedModel. Choose another path, or remove it.")
    endpoints = _endpoints(model, decode, resize)

    def write(new):
        _write_saved_model(model, new, endpoints)
        # Where programs that serve a model look for what is none of TensorFlow's.
        (new / "assets.extra").mkdir()
        (new / "assets.extra" / "tfdefense.json").write_text(json.dumps(plain(_about(model)), indent=1))

    with quiet():
        write_folder(path, write)
    return path


def onnx(model: Model, path: PathLike) -> Path:
    """Writes an ONNX file. Needs `pip install tfdefense[export]`.

    Args:
        model, path: As of `export`.

    Example:

    >>> onnx(defended, "defended.onnx")  # doctest: +SKIP
    """
    path = prepared(model, path, "onnx")
    spec = spec_of(model)
    write_file(path, lambda new: new.write_bytes(as_onnx(served(model, frozen=True), spec)))
    return path


def as_onnx(function: Callable[..., dict[str, Tensor]], *specs: Any) -> bytes:
    """The content of an ONNX file that computes a function of tensors."""
    for package in ("tf2onnx", "onnx"):
        if importlib.util.find_spec(package) is None:
            raise ImportError(f"The export to ONNX needs {package}, which is not installed: pip install tfdefense[export]")
    import tensorflow as tf

    with quiet():
        import onnx as onnx_package
        import tf2onnx

        traced = tf.function(function, input_signature=specs, autograph=False)
        with _readable("ONNX"), _constants():
            proto, _ = tf2onnx.convert.from_function(
                traced, specs, custom_op_handlers={"SelectV2": (_where, []), "Select": (_where, [])}
            )
            # tf2onnx goes on past operations that it does not know; no runtime could load the result.
            onnx_package.checker.check_model(proto)
    return proto.SerializeToString()


def litert(
    model: Model,
    path: PathLike,
    *,
    quantize: Samples | None = None,
    max_changed: float = 0.02,
    recalibrate: float | None = None,
) -> Path:
    """Writes a LiteRT (`.tflite`) file with the signature `serving_default`.

    Args:
        model, path: As of `export`.
        quantize: Samples as they will come, 40 or more. The network then computes in whole numbers of eight bits, in a file about a
            quarter as large; what checks the input and decides computes in floats as before. How many labels differ is printed.
        max_changed: Share of labels that may differ from those in floats; with more nothing is written.
        recalibrate: Share of fresh clean samples that may be rejected: the threshold of the file is set anew, on what its network
            says of the half of `quantize` that did not give the ranges of values. For models of one threshold.

    Example:

    >>> litert(defended, "defended.tflite", quantize=x_held_out)  # doctest: +SKIP
    """
    path = prepared(model, path, "litert")
    import tensorflow as tf

    if not hasattr(tf, "lite"):
        raise ImportError("This TensorFlow has no LiteRT converter. Use one that has: pip install 'tensorflow<2.22'")
    if quantize is None and (recalibrate is not None or max_changed != 0.02):
        raise ValueError("`recalibrate` and `max_changed` belong to `quantize`. Received them without: pass samples.")

    def write(folder):
        _write_saved_model(model, folder, {"serve": (served(model, frozen=True), spec_of(model))})

    with quiet(), _constants():
        if quantize is not None:
            found = quantized(model, quantize, write, max_changed=max_changed, recalibrate=recalibrate)
            content = found.content
        else:
            with tempfile.TemporaryDirectory() as folder, _readable("LiteRT"):
                write(Path(folder))
                content = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serving_default"]).convert()
    write_file(path, lambda new: new.write_bytes(content))
    if quantize is not None:
        print(f"{path}: {found}")
    return path


def _write_saved_model(model, new, endpoints):
    """`endpoints`: name of a signature -> its function, and what it takes. The first is `serving_default` too."""
    from keras.export import ExportArchive

    archive = ExportArchive()
    archive.track(model)
    for name, (function, *specs) in endpoints.items():
        archive.add_endpoint(name, function, input_signature=specs)
    archive.write_out(str(new), verbose=False)
    for name, (_, *specs) in endpoints.items():
        for spec in specs[1:]:
            _set_default(new, name, spec)


def _set_default(new, name, spec):
    """Says in a signature what a server puts in where a request leaves an input out; Keras has no way to."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString((new / "saved_model.pb").read_bytes())
    row = np.full([1, *spec.shape[1:]], np.nan, "float32")
    content.meta_graphs[0].signature_def[name].defaults[spec.name].CopyFrom(tf.make_tensor_proto(row))
    (new / "saved_model.pb").write_bytes(content.SerializeToString())


def _endpoints(model, decode, resize):
    found: dict[str, tuple[Any, ...]] = {"serve": (served(model), spec_of(model))}
    if uint8 := served_uint8(model):
        found["serve_uint8"] = (uint8, spec_of(model, "uint8"))
    if moved := served_threshold(model):
        found["serve_threshold"] = (moved[0], spec_of(model), moved[1])
    if decode or resize:
        import tensorflow as tf

        found["serve_image"] = (served_image(model, resize), tf.TensorSpec([None], "string", name="image_bytes"))
    return found


def _about(model):
    """What a request and its answer don't say: names of classes and detectors, the thresholds, the range of the pixels."""
    from tfdefense._reasons import REASONS
    from tfdefense._validation import is_bounded
    from tfdefense.contract import bounds_of, class_names, is_defended, nodes_of
    from tfdefense.layers import Threshold
    from tfdefense.prediction.deciding import detectors

    if not is_defended(model):
        return {"classes": None, "detectors": []}
    bounds = bounds_of(model)
    return {
        "classes": class_names(model),
        "detectors": detectors(model),
        "thresholds": [layer.value.numpy().reshape(-1) for layer, _ in nodes_of(model, Threshold)],
        "reasons": REASONS,
        "bounds": bounds if bounds and is_bounded(bounds) else None,
    }


@contextlib.contextmanager
def _constants():
    """What is traced inside has its weights as constants, and gradients, where some layer takes any, of plain operations."""
    from tfdefense._cuts.plain_gradients import plain_gradients
    from tfdefense.layers.reject import weights_are_constants

    with weights_are_constants(), plain_gradients():
        yield


def prepared(model, path, format):
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
