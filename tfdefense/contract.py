"""The contract of a defended model: build one, check one, load one.

A defended model is a functional Keras model with the outputs `scores`, `suspicion` (above 0 = rejected) and `label`
(a class, or -1). Everything else in the library knows a defense by these three alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense import graph, layers  # their names are looked up later: this may be loaded in the middle of either
from tfdefense._files import write_file
from tfdefense._untrusted import check_format, check_keras_file, check_model, readable
from tfdefense._validation import Bounds, Model, PathLike, Tensor, batch_hint, checked_names

OUTPUTS = ("scores", "suspicion", "label")


@keras.saving.register_keras_serializable(package="tfdefense")
class InferenceModel(keras.Model):
    """A functional model whose plain call is one for inference, whatever layers are inside; `fit` trains it as any other.

    Keras calls augmentation layers as in training unless told otherwise: `model(x)` would draw, `model.predict(x)` would not.
    """

    def __call__(self, inputs: Tensor, *args: Any, **options: Any) -> Tensor:
        # Keras adds an axis where one is lacking: of one image it makes as many as it has rows.
        if not isinstance(inputs, list | tuple | dict) and hasattr(inputs, "shape"):
            _check_shape(inputs, self.inputs[0].shape)
        return super().__call__(inputs, *args, **options)

    def call(self, inputs, training=None, mask=None):
        call = functools.partial(super().call, training=bool(training), mask=mask)
        if not _is_empty(inputs):
            return call(inputs)
        # Convolutions of TensorFlow know no empty batch: a sample is put in its place, and its answer is left out.
        return keras.tree.map_structure(lambda output: output[:0], call(keras.ops.zeros((1, *inputs.shape[1:]), inputs.dtype)))

    def predict(self, x, *args, **options):
        if not _is_empty(x):
            return super().predict(x, *args, **options)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, self(x))


@keras.saving.register_keras_serializable(package="tfdefense")
class DefendedModel(InferenceModel):
    """What `td.defend` and `attach` give: a functional model with the outputs of the contract."""

    def save(self, filepath: PathLike, overwrite: bool = True, zipped: bool | None = None, **options: Any) -> None:
        """Saves the model as Keras does; a `.keras` file that is there already is replaced by a whole one or not at all."""
        save = functools.partial(super().save, overwrite=overwrite, zipped=zipped, **options)
        # Keras asks before it overwrites where it was told to, and names what it can't write.
        if overwrite and str(filepath).endswith(".keras") and Path(filepath).parent.is_dir():
            write_file(filepath, save)
        else:
            save(filepath)

    def decide(self, x: ArrayLike) -> dict[str, np.ndarray]:
        """Decides a batch at once, compiled on the first call: what a service of your own calls for each request.

        Args:
            x: Samples, in one batch: `td.predict` divides more than memory holds.

        Returns:
            Arrays: `scores`, `suspicion` and `label`, and why: `reason`, a place in `td.prediction.REASONS`, and `detector`, one
            in `td.prediction.detectors(model)`, -1 where none rejected.

        Example:

        >>> defended.decide(x)["label"].shape
        (8,)
        """
        import tfdefense

        return tfdefense.prediction.decide(self, x)

    def export(self, filepath: PathLike, format: str | None = None, verbose: bool = False, **options: Any) -> None:
        """Writes what the suffix of the path names, with the rejection inside: see `td.export.export`."""
        import tfdefense

        if options:
            raise ValueError(f"`export` takes a path and a format. Received: {', '.join(options)}.")
        # Keras's own name for it.
        path = tfdefense.export.export(self, filepath, "saved_model" if format == "tf_saved_model" else format)
        if verbose:
            print(f"Written: {path}")


def _check_shape(x, expected):
    if getattr(x.shape, "rank", 0) is None:  # a tensor of which nothing is known
        return
    shape = tuple(x.shape)
    # A last axis of one may be left out, or be there twice: that much is clear.
    forms = (shape, (*shape, 1), shape[:-1] if shape[-1:] == (1,) else shape)
    if not any(_fits(form, expected) for form in forms):
        raise ValueError(f"Expected samples of shape {tuple(expected)}. Received {shape}.{batch_hint(shape, expected)}")


def _fits(shape, expected):
    return len(shape) == len(expected) and all(None in pair or pair[0] == pair[1] for pair in zip(shape, expected, strict=True))


def _is_empty(x):
    """Whether an array or a tensor holds no sample, as far as its shape says."""
    return len(getattr(x, "shape", None) or ()) > 0 and x.shape[0] == 0


def as_defended(model: Model) -> Model:
    """A model with the outputs of the contract as a `DefendedModel`: one from a file may be of an older version.

    Args:
        model: A Keras model.

    Example:

    >>> as_defended(defended) is defended
    True
    """
    if isinstance(model, DefendedModel):
        return model
    laid = graph.for_inference(model)
    defended = DefendedModel(laid.input, laid.output, name=model.name)
    if model.compiled:
        defended.compile_from_config(model.get_compile_config())
    return defended


def defend(
    input: Tensor,
    scores: Tensor,
    suspicion: Tensor,
    *,
    base: Tensor = None,
    bounds: Bounds = (0.0, 1.0),
    name: str = "defended",
    class_names: Sequence[str] | None = None,
) -> Model:
    """Builds a defended model from symbolic tensors of one graph.

    Args:
        input: The model's input tensor.
        scores: Class scores, shape (batch, classes).
        suspicion: Above 0 means rejected, shape (batch,); usually what a `td.layers.Threshold` gives.
        base: Scores of the undefended classifier, where the defense has scores of its own.
        bounds: Lowest and highest value that an input may have; anything else is rejected. None is any finite number.
        name: Name of the model.
        class_names: Names of the classes, in the order of the scores.

    Returns:
        A functional `keras.Model` with the outputs `scores`, `suspicion` and `label`.

    Example:

    >>> inputs = keras.Input((8, 8, 1))
    >>> scores = model(inputs)
    >>> sorted(defend(inputs, scores, td.layers.Threshold()(td.layers.Confidence()(scores))).output)
    ['label', 'scores', 'suspicion']
    """
    graph.check_class_output(scores.shape, name)
    if len(suspicion.shape) != 1:
        raise ValueError(f"Expected one suspicion a sample, shape (batch,). Received shape {tuple(suspicion.shape)}.")
    undefended = {} if base is None or base is scores else {"base": base}
    taken = {operation.name for operation, _ in graph.behind([scores, suspicion, *undefended.values()])}
    names = checked_names(class_names, scores.shape[-1])
    reject = layers.Reject(bounds, names, name="reject_of_defense" if "reject" in taken else "reject")
    return as_defended(keras.Model(input, reject(input, scores, suspicion, **undefended), name=name))


def is_defended(model: Any) -> bool:
    """Whether the outputs of a Keras model are those of the contract.

    Args:
        model: A Keras model.

    Example:

    >>> is_defended(defended), is_defended(model)
    (True, False)
    """
    output = getattr(model, "output", None) if getattr(model, "built", False) else None
    return isinstance(output, dict) and set(output) == set(OUTPUTS)


def reject_node(model: Model) -> tuple[layers.Reject, Any]:
    """The `Reject` layer of a defended model and its call, or an error that says what to attach."""
    for operation, node in graph.walk(model):
        if isinstance(operation, layers.Reject):
            return operation, node
    inside = [layer.name for layer in getattr(model, "layers", ()) if is_defended(layer)]
    if inside:
        raise ValueError(f"The defense is inside the submodel '{inside[0]}'. Work on that: `model.get_layer('{inside[0]}')`.")
    raise ValueError(
        f"Expected a defended model. Received '{getattr(model, 'name', type(model).__name__)}', which has no rejection. "
        "Attach a defense first: `td.ThresholdDefense().attach(model)`."
    )


def bounds_of(defended: Model) -> Bounds:
    """Lowest and highest value that the defended model accepts, (-inf, inf) where it accepts any finite number.

    None where it has no `td.layers.Reject` to say so.

    Args:
        defended: A defended model.

    Example:

    >>> bounds_of(defended)
    (0.0, 1.0)
    """
    return next((operation.bounds for operation, _ in graph.walk(defended) if isinstance(operation, layers.Reject)), None)


def class_names(defended: Model) -> tuple[str, ...] | None:
    """Names of the classes in the order of the scores, as a tuple; None where the model was not told any.

    Args:
        defended: A defended model.

    Example:

    >>> named = td.ThresholdDefense().attach(model, class_names=list("abcdefghij"))
    >>> class_names(named)[:3]
    ('a', 'b', 'c')
    """
    if not is_defended(defended):
        return None
    return next((operation.class_names for operation, _ in graph.walk(defended) if isinstance(operation, layers.Reject)), None)


def name_classes(defended: Model, names: Sequence[str]) -> None:
    """Gives names to the classes of a defended model, in the order of its scores; its next file keeps them.

    Args:
        defended: A defended model.
        names: One name a class.

    Example:

    >>> defended = td.ThresholdDefense().attach(model)
    >>> name_classes(defended, ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    >>> class_names(defended)[3]
    'three'
    """
    reject, _ = reject_node(defended)
    reject.class_names = checked_names(names, defended.output["scores"].shape[-1])


def base_model(defended: Model) -> Model:
    """Gives the undefended classifier inside a defended model, with the same weights. Its output is the logits.

    Args:
        defended: A defended model.

    Example:

    >>> base_model(defended)(x).shape
    TensorShape([8, 10])
    """
    _, node = reject_node(defended)
    scores = node.arguments.kwargs.get("base")
    if scores is None:
        scores = node.arguments.args[1]
    # A file of a plain model is read without this library.
    kind = InferenceModel if any(graph.may_draw(operation) for operation, _ in graph.behind([scores])) else keras.Model
    return kind(defended.inputs[0], scores, name=f"{defended.name}_base")


def nodes_of(model: Model, kind: Any) -> list[tuple[Any, Any]]:
    """The layers of one kind and their calls, in the order in which data flows.

    Args:
        model: A functional model.
        kind: A class of layers.

    Example:

    >>> [layer.name for layer, _ in nodes_of(defended, layers.Reject)]
    ['reject']
    """
    nodes = {operation.name: (operation, node) for operation, node in graph.walk(model) if isinstance(operation, kind)}
    return [nodes[layer.name] for layer in model.operations if layer.name in nodes]


def _layers_within(model):
    """All layers, those of submodels too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers_within(layer)


def broken(model: Model, apart_from: tuple[type, ...] = ()) -> str | None:
    """One sentence on weights that are not finite, or None. What waits to be adapted or calibrated is not broken yet.

    Args:
        model: A Keras model.
        apart_from: Types of layers whose state is about to be set.
    """
    spared = set()
    for layer in _layers_within(model):
        waits = isinstance(layer, layers.AdaptableLayer) and not layer.adapted
        waits |= isinstance(layer, layers.Threshold) and not layer.placed
        if waits or isinstance(layer, apart_from):
            spared |= {id(weight) for weight in layer.weights}
    for weight in model.weights:
        if id(weight) not in spared and not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            return (
                f"Weight '{weight.path}' holds NaN or infinity, so every sample is rejected. Expected finite weights. "
                "Load or train the model again."
            )
    return None


def check_sound(model: Model, apart_from: tuple[type, ...] = ()) -> None:
    """Refuses a model with weights that are not finite; see `broken`."""
    fault = broken(model, apart_from)
    if fault:
        raise ValueError(fault)


def unready(defended: Model) -> str | None:
    """One sentence on what a defense still lacks, or on what is broken; or None.

    Args:
        defended: A defended model.

    Example:

    >>> unready(td.ThresholdDefense().attach(model)) is None, unready(defended) is None
    (False, True)
    """
    every = list(_layers_within(defended))
    for layer in every:
        if isinstance(layer, layers.AdaptableLayer) and not layer.adapted:
            attacked = "adversarial=x_adv, " if any(getattr(each, "needs_adversarial", False) for each in every) else ""
            # Samples that the network knows would give what chooses by a rate the wrong one.
            samples = "x_unseen, y_unseen" if layer.takes_rate else "x_train, y_train"
            return (
                f"Layer '{layer.name}' is not adapted yet. Call `td.adapt(defended, {samples}, {attacked}calibration=x_held_out)`."
            )
    if fault := broken(defended):
        return fault
    for layer in every:
        if isinstance(layer, layers.Threshold) and not layer.calibrated:
            return (
                f"Layer '{layer.name}' has no threshold yet, so every sample is rejected. "
                "Call `td.calibrate(defended, x_held_out, max_rejected=0.05)`."
            )
    return None


def load(path: PathLike, *, safe_mode: bool = True) -> Model:
    """Loads a `.keras` file of a defended model, with the layers of this library known.

    A file whose weights are not all finite is refused.

    Args:
        path: A `.keras` file.
        safe_mode: False also runs code that the file holds: the Python lambdas of `Lambda` layers, the SavedModel of a
            `TFSMLayer`. Only for files that you have made yourself.

    Returns:
        The defended model.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "defended.keras"
    >>> defended.save(path)
    >>> load(path)(x)["label"].shape
    TensorShape([8])
    """
    check_format(path)
    if "://" not in str(path):  # Other places are Keras's own.
        check_keras_file(path)
    model = read(path, safe_mode)
    reject_node(model)
    check_sound(model)
    return as_defended(model)


def read(path: PathLike, safe_mode: bool = True) -> Model:
    """Reads the model of a `.keras` file, of any kind and in any state. `load` also checks that it is a whole defended model.

    Args:
        path: A `.keras` file.
        safe_mode: As for `load`.
    """
    with readable(path, "a model"):
        model = keras.models.load_model(path, safe_mode=safe_mode)
    check_model(model, path)
    return model
