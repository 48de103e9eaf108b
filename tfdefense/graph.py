"""Looking inside a user's Keras model without changing it: inner layers, and the logits behind a softmax."""

from __future__ import annotations

import contextlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from tfdefense._suggest import nearest
from tfdefense._validation import Model, Tensor

# By their names as functions, TensorFlow's own among them, and as operations: `keras.ops.softmax` makes one without a layer.
_SQUASHING = dict.fromkeys(("softmax", "log_softmax", "softmax_v2", "log_softmax_v2"), "softmax") | {"sigmoid": "sigmoid"}
_SQUASHING_OPERATIONS = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}


@dataclass(frozen=True)
class Exposed:
    """Symbolic tensors of one model: its input, the scores before any softmax, and the layers asked for.

    A binary classifier, one unit with a sigmoid, has two scores: 0 and what is behind the sigmoid.
    """

    input: Tensor
    logits: Tensor
    taps: dict[str, Tensor]


def expose(model: Model, layers: Sequence[str] = ()) -> Exposed:
    """Gives the input, the logits and the outputs of `layers` of a functional or Sequential classifier.

    The tensors belong to the model's own layers, so that weights are shared; the model itself stays as it is.
    A layer inside a submodel is named `submodel/layer`, or by its own name where that is unique.

    Example:

    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, name="hidden"), keras.layers.Dense(3)])
    >>> expose(model, ["hidden"]).taps["hidden"].shape
    (None, 8)
    """
    model = as_functional(model)
    _check_ends(model)
    input, output, taps = _open(model, {name: _find(model, name) for name in layers}, logits=True)
    check_class_output(output.shape, model.name)
    return Exposed(input, output, taps)


def _check_ends(model):
    """One input of numbers and one output, or an error that says how to get there."""
    if len(model.outputs) != 1:
        raise ValueError(
            f"Expected a classifier with one output. Received a model with {len(model.outputs)} outputs. Pick the class "
            f"scores: `keras.Model(model.inputs, model.outputs[0])`."
        )
    if len(model.inputs) != 1:
        raise ValueError(
            f"Expected a classifier with one input. Received a model with {len(model.inputs)} inputs. Make one of them, and "
            f"pass the samples in that form:\n{_in_one_input(model)}"
        )
    if model.inputs[0].dtype == "string":
        raise ValueError(
            f"Expected a classifier of numbers. Model '{model.name}' takes text. Attach to the part behind its text layer, and "
            "pass it what that layer gives: `inputs = keras.Input(shape); keras.Model(inputs, layers_after_it(inputs))`."
        )


def _in_one_input(model):
    """Code that puts the inputs of a model side by side in one."""
    sizes = [math.prod(tensor.shape[1:]) if None not in tensor.shape[1:] else 0 for tensor in model.inputs]
    if not all(sizes):
        return "`x = keras.Input(shape); keras.Model(x, model([first_part(x), second_part(x)]))`"
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    parts = [
        f"keras.ops.reshape(x[:, {start}:{start + size}], {(-1, *tensor.shape[1:])})"
        for start, size, tensor in zip(starts, sizes, model.inputs, strict=True)
    ]
    # A model of named inputs takes a dict of them.
    names = model.input if isinstance(model.input, dict) else None
    together = f"[{', '.join(parts)}]"
    if names:
        parts = dict(zip((id(tensor) for tensor in model.inputs), parts, strict=True))
        together = "{" + ", ".join(f"{name!r}: {parts[id(tensor)]}" for name, tensor in names.items()) + "}"
    return f"x = keras.Input(({sum(sizes)},))\nmodel = keras.Model(x, model({together}))"


def check_class_output(shape: Sequence[int | None], name: str) -> None:
    if len(shape) != 2 or shape[-1] is None or shape[-1] < 2:
        raise ValueError(
            f"Expected a classifier that gives one score for each of at least 2 classes, shape (batch, classes). "
            f"Received model '{name}' with output shape {tuple(shape)}. For two classes use `Dense(2)`, or `Dense(1)` with a "
            "sigmoid, without which it may as well be a regression; for a feature extractor add pooling and a Dense layer "
            "with one unit a class."
        )


def walk(model: Model) -> Iterator[tuple[Any, Any]]:
    """Every call of an operation in the model's graph, from its outputs back: pairs (operation, node)."""
    if not getattr(model, "built", True):
        as_functional(model)
    yield from behind(model.outputs)


def behind(tensors: Iterable[Tensor]) -> Iterator[tuple[Any, Any]]:
    """Every call of an operation that symbolic tensors come from."""
    seen, waiting = set(), list(tensors)
    while waiting:
        history = waiting.pop()._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if id(node) not in seen:
            seen.add(id(node))
            waiting.extend(node.arguments.keras_tensors)
            yield history.operation, node


def input_of(tensor: Tensor) -> Tensor:
    """The one input of the model that a symbolic tensor comes from."""
    return next(node.output_tensors[0] for _, node in behind([tensor]) if node.is_input)


def for_inference(model: Model) -> Model:
    """The same layers in a graph whose calls say `training=False`, where a plain call might draw; else the model itself.

    Random layers such as `keras.layers.RandomFlip` draw unless told otherwise, also in a `keras.Function` cut from the graph.
    `fit` tells them all to draw, whatever the graph says.
    """
    if not any(may_draw(operation) for operation in model.operations):
        return model

    def call(operation, *args, **kwargs):
        if getattr(operation, "_call_has_training_arg", False):
            kwargs["training"] = False
        return operation(*args, **kwargs)

    return laid_again(model, call, model.input)


def may_draw(operation: Any) -> bool:
    """Whether a plain call of a layer may be one for training: its `call` says so, or it is somebody's own."""
    if not isinstance(operation, keras.layers.Layer):
        return False
    for layer in (operation, *operation._flatten_layers()):
        training = inspect.signature(layer.call).parameters.get("training")
        own = type(layer).__module__.split(".")[0] not in ("keras", "tfdefense")
        if own or (training is not None and training.default not in (None, False, inspect.Parameter.empty)):
            return True
    return False


def as_functional(model: Model) -> Model:
    """The same layers as a functional model, or an error that says what is in the way."""
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise ValueError(
                f"Model '{model.name}' has no known input shape yet. "
                "Build it first: start it with `keras.Input(shape)`, or call `model.build((None, ...))`."
            )
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if not isinstance(model, keras.Model):
        hint = ""
        if hasattr(model, "signatures"):
            hint = " A loaded SavedModel has no layers any more: load the `.keras` file that it was exported from."
        raise ValueError(f"Expected a Keras model. Received an object of type {type(model).__name__}.{hint}")
    if not hasattr(model, "operations"):
        raise ValueError(
            f"Expected a functional or Sequential model. Received the subclassed model '{type(model).__name__}', whose inner "
            "layers can't be seen. Wrap it: `inputs = keras.Input(shape); keras.Model(inputs, your_call_written_out(inputs))`."
        )
    return model


def is_submodel(operation: Any) -> bool:
    """Whether a layer is a model whose own layers can be seen."""
    return isinstance(operation, keras.Model) and (isinstance(operation, keras.Sequential) or hasattr(operation, "operations"))


def _paths(model, prefix=""):
    """Names of all layers, those of submodels as `submodel/layer`."""
    for operation, _ in walk(model):
        if isinstance(operation, keras.layers.Layer):
            yield prefix + operation.name
            if is_submodel(operation):
                yield from _paths(as_functional(operation), f"{prefix}{operation.name}/")


def _find(model, name):
    paths = sorted(set(_paths(model)))
    if name in paths:
        return name
    inside = [path for path in paths if path.endswith("/" + name)]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise ValueError(f"Layer '{name}' is in several submodels. Say which: {', '.join(inside)}.")
    own_names = {path.split("/")[-1]: path for path in paths} | {path: path for path in paths}
    close = nearest(name, own_names, most=3, cutoff=0.4)
    near = dict.fromkeys(own_names[found] for found in close)
    raise ValueError(
        f"Model '{model.name}' has no layer '{name}'. Nearest: {', '.join(near)}."
        if near
        else f"Model '{model.name}' has no layer '{name}'. It has: {', '.join(paths)}."
    )


def _open(model, wanted, logits):
    """Symbolic input, output (the logits if asked) and tapped tensors; `wanted` maps names to paths."""
    last = model.outputs[0]._keras_history.operation
    inside = {}
    for name, path in wanted.items():
        head, _, rest = path.partition("/")
        if rest:
            inside.setdefault(head, {})[name] = rest
    if logits and is_submodel(last):
        inside.setdefault(last.name, {})
    taps, whole = {}, {}
    for head in inside:
        submodel, calls = model.get_layer(head), [node for operation, node in walk(model) if operation.name == head]
        if len(calls) > 1:
            raise ValueError(
                f"Submodel '{head}' is called {len(calls)} times in '{model.name}', so the output of a layer in it is ambiguous."
            )
        if is_submodel(submodel) and len(submodel.outputs) != 1:
            raise ValueError(
                f"Submodel '{head}' of '{model.name}' has {len(submodel.outputs)} outputs. To look at a layer in it, one is "
                "needed: watch a layer beside it, or write its layers out."
            )
    if inside:
        # Tapped beside its call the submodel would run twice: the outer graph is laid again, on the same layers and weights.
        def call(layer, *args, **kwargs):
            if layer.name not in inside or not is_submodel(layer):
                return layer(*args, **kwargs)
            inner = as_functional(layer)
            names = inside[layer.name]
            as_logits = logits and layer is last
            tapped_input, output, tapped = _open(inner, names, as_logits)
            whole[layer.name], *found = keras.Model(tapped_input, [output, *tapped.values()], name=layer.name)(*args, **kwargs)
            taps.update(zip(tapped, found, strict=True))
            return whole[layer.name]

        model = laid_again(model, call)
    for name, path in wanted.items():
        if "/" not in path:
            calls = [node for operation, node in walk(model) if operation.name == path]
            if len(calls) > 1:
                raise ValueError(f"Layer '{name}' is called {len(calls)} times in '{model.name}', so its output is ambiguous.")
            taps[name] = whole.get(path, calls[0].output_tensors[0])
    output, input = model.outputs[0], model.inputs[0] if len(model.inputs) == 1 else model.input
    if not logits:
        return input, output, taps
    # The output layer is watched where it is not saturated: probabilities of 1 tell samples apart no more.
    scores, taken_off = _before_squashing(output)
    if taken_off == "sigmoid":
        scores = _of_sigmoid(scores, model.name)
    return input, scores, {name: scores if tap is output else tap for name, tap in taps.items()}


class SeveralLabels(ValueError):
    """A model whose classes do not exclude one another: no arg max is its decision."""


def _of_sigmoid(logits, name):
    # Layers look into graphs themselves.
    from tfdefense.layers import BinaryScores

    if len(logits.shape) == 2 and logits.shape[-1] == 1:
        return BinaryScores()(logits)
    raise SeveralLabels(
        f"Model '{name}' ends in a sigmoid over {logits.shape[-1]} units: a sample may have several labels, or none, and a "
        "defended model gives one class. Take the sigmoid off: `model.layers[-1].activation = keras.activations.linear`. If "
        "each sample has exactly one class, attach to that: no decision changes. If not, defend each label as a binary "
        "classifier: `keras.Model(model.inputs[0], keras.layers.Activation('sigmoid')(model.outputs[0][:, :1]))`."
    )


def laid_again(model: Model, call_function: Callable[..., Any], inputs: Tensor = None) -> Model:
    """The graph of a functional model anew, on the same layers, each called by `call_function(layer, *args, **kwargs)`.

    It is not compiled. Its inputs are new, unless symbolic tensors are given.
    """
    return keras.models.clone_model(uncompiled(model), inputs, clone_function=lambda layer: layer, call_function=call_function)


def uncompiled(model: Model) -> Model:
    """The same functional model without what `compile` left: a clone copies that too, and fails at a loss that is a lambda."""
    return keras.Model(model.input, model.output, name=model.name) if model.compiled else model


def tell_unloadable(model: Model) -> None:
    """Warns of layers that Keras writes into a file and does not read again, because they would run code from it."""
    for layer in model._flatten_layers():
        function = getattr(layer, "function", None)
        if isinstance(layer, keras.layers.Lambda) and getattr(function, "__name__", "") == "<lambda>":
            code = "a Python lambda"
        elif type(layer).__name__ == "TFSMLayer" and type(layer).__module__.startswith("keras."):
            code = "a SavedModel"
        else:
            continue
        warnings.warn(
            f"Layer '{layer.name}' ({type(layer).__name__}) holds {code}: a file with it can't be loaded again, since that would "
            "run code from the file. Write it as a layer: `@keras.saving.register_keras_serializable()` above a class that derives "
            "from `keras.layers.Layer`; or load files of your own with `td.load(path, safe_mode=False)`.",
            UserWarning,
            stacklevel=3,
        )


def before_last_dense(tensor: Tensor) -> tuple[Tensor, Any]:
    """What the last Dense layer on the way to a tensor takes; else None, and what stands in the way.

    A submodel stands in the way: behind it an earlier Dense layer would be another one.
    """
    while True:
        history = tensor._keras_history
        inputs = history.operation._inbound_nodes[history.node_index].arguments.keras_tensors
        if isinstance(history.operation, keras.layers.Dense):
            return inputs[0], history.operation
        if len(inputs) != 1 or isinstance(history.operation, keras.Model):
            return None, history.operation
        tensor = inputs[0]


def _before_squashing(output):
    """The scores behind a softmax or sigmoid, also where operations that change nothing follow it, and which of them it was.

    Without one the output as it is, and None.
    """
    tensor = output
    while True:
        history = tensor._keras_history
        layer, node = history.operation, history.operation._inbound_nodes[history.node_index]
        linear = isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.linear
        if not linear and not isinstance(layer, keras.layers.Identity | keras.layers.Dropout):
            break
        tensor = node.arguments.keras_tensors[0]
    squashing = _squashing(layer)
    if squashing is None:
        return output, None
    before = node.arguments.keras_tensors[0]
    return (_without_activation(layer, squashing)(before) if isinstance(layer, keras.layers.Dense) else before), squashing


def _squashing(operation):
    """ "softmax" or "sigmoid" where that is what an operation does last, else None."""
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if isinstance(operation, keras.layers.Activation | keras.layers.Dense):
        return _SQUASHING.get(getattr(operation.activation, "__name__", ""))
    return None if isinstance(operation, keras.layers.Layer) else _SQUASHING_OPERATIONS.get(type(operation).__name__)


def _without_activation(dense, activation):
    """The same Dense layer without its activation, on the same variables."""
    if dense.lora_enabled or dense.quantization_mode or type(dense).call is not keras.layers.Dense.call:
        raise ValueError(
            f"The {activation} inside layer '{dense.name}' can't be taken off: the layer is quantized, has LoRA weights or a "
            f"`call` of its own. Give it no activation, and put a `keras.layers.Activation('{activation}')` behind it."
        )
    linear = keras.layers.Dense(dense.units, use_bias=dense.use_bias, name=dense.name, dtype=dense.dtype_policy)
    linear.input_spec = dense.input_spec
    linear._kernel = dense._kernel
    linear.bias = dense.bias
    linear.built = True
    return linear


@contextlib.contextmanager
def unnoted(model: Model) -> Iterator[None]:
    """Takes back what the calls inside note on the layers of `model`: a base would hold each defense ever attached to it.

    Keras lists on every operation the calls that use its outputs, and reads that list nowhere: saving, cloning and running go
    from a call back to its inputs.
    """
    known = {id(operation): operation for operation in _operations(model)}
    before = [(operation, len(operation._inbound_nodes), len(operation._outbound_nodes)) for operation in known.values()]
    try:
        yield
    finally:
        again = []
        for operation, calls, uses in before:
            del operation._outbound_nodes[uses:]
            again += [tensor for node in operation._inbound_nodes[calls:] for tensor in node.arguments.keras_tensors]
        # Where the layers were called again, as in the copy of a graph, they hold what these calls came from, such as its input.
        for operation, _ in behind(again):
            if id(operation) not in known:
                operation._outbound_nodes.clear()


def _operations(model):
    """All operations of a model, those of submodels too; none of one that is subclassed, or not built."""
    if not (getattr(model, "built", False) and getattr(model, "outputs", None)):
        return
    for operation in {id(operation): operation for operation, _ in walk(model)}.values():
        yield operation
        if isinstance(operation, keras.Model):
            yield from _operations(operation)
