"""The contract of a defended model: build one, check one, load one.

A defended model is a functional Keras model with the outputs `scores`, `suspicion` (above 0 = rejected) and `label`
(a class, or -1). Everything else in the library knows a defense by these three alone.
"""

import keras

from tfdefense._untrusted import check_keras_file, check_model, readable
from tfdefense.graph import behind, check_class_output, walk
from tfdefense.layers import AdaptableLayer, Reject, Threshold

OUTPUTS = ("scores", "suspicion", "label")


def defend(input, scores, suspicion, *, base=None, bounds=(0.0, 1.0), name="defended"):
    """Builds a defended model from symbolic tensors of one graph.

    Args:
        input: The model's input tensor.
        scores: Class scores, shape (batch, classes).
        suspicion: Above 0 means rejected, shape (batch,); usually what a `td.layers.Threshold` gives.
        base: Scores of the undefended classifier, where the defense has scores of its own.
        bounds: Lowest and highest value that an input may have; anything else is rejected.
        name: Name of the model.

    Returns:
        A functional `keras.Model` with the outputs `scores`, `suspicion` and `label`.
    """
    check_class_output(scores.shape, name)
    if len(suspicion.shape) != 1:
        raise ValueError(f"Expected one suspicion a sample, shape (batch,). Received shape {tuple(suspicion.shape)}.")
    undefended = {} if base is None or base is scores else {"base": base}
    taken = {operation.name for operation, _ in behind([scores, suspicion, *undefended.values()])}
    reject = Reject(bounds, name="reject_of_defense" if "reject" in taken else "reject")
    return keras.Model(input, reject(input, scores, suspicion, **undefended), name=name)


def is_defended(model):
    """Whether the outputs of a Keras model are those of the contract."""
    output = getattr(model, "output", None) if getattr(model, "built", False) else None
    return isinstance(output, dict) and set(output) == set(OUTPUTS)


def reject_node(model):
    for operation, node in walk(model):
        if isinstance(operation, Reject):
            return operation, node
    inside = [layer.name for layer in getattr(model, "layers", ()) if is_defended(layer)]
    if inside:
        raise ValueError(f"The defense is inside the submodel '{inside[0]}'. Work on that: `model.get_layer('{inside[0]}')`.")
    raise ValueError(
        f"Expected a defended model. Received '{getattr(model, 'name', type(model).__name__)}', which has no rejection. "
        "Attach a defense first: `td.ThresholdDefense().attach(model)`."
    )


def bounds_of(defended):
    """Lowest and highest value that the defended model accepts; None where it has no `td.layers.Reject` to say so."""
    return next((operation.bounds for operation, _ in walk(defended) if isinstance(operation, Reject)), None)


def base_model(defended):
    """The undefended classifier inside a defended model: the same weights, class scores (logits) alone."""
    _, node = reject_node(defended)
    scores = node.arguments.kwargs.get("base")
    if scores is None:
        scores = node.arguments.args[1]
    return keras.Model(defended.inputs[0], scores, name=f"{defended.name}_base")


def nodes_of(model, kind):
    """Calls of layers of one kind, in the order in which data flows."""
    nodes = {operation.name: (operation, node) for operation, node in walk(model) if isinstance(operation, kind)}
    return [nodes[layer.name] for layer in model.operations if layer.name in nodes]


def _layers_within(model):
    """All layers, those of submodels too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers_within(layer)


def unready(defended):
    """One sentence on what a defense still lacks, or None."""
    layers = list(_layers_within(defended))
    for layer in layers:
        if isinstance(layer, AdaptableLayer) and not layer.adapted:
            attacked = "adversarial=x_adv, " if any(getattr(each, "needs_adversarial", False) for each in layers) else ""
            return (
                f"Layer '{layer.name}' is not adapted yet. "
                f"Call `td.adapt(defended, x_train, y_train, {attacked}calibration=x_held_out)`."
            )
    for layer in layers:
        if isinstance(layer, Threshold) and not layer.calibrated:
            return (
                f"Layer '{layer.name}' has no threshold yet, so every sample is rejected. "
                "Call `td.calibrate(defended, x_held_out, max_rejected=0.05)`."
            )
    return None


def load(path):
    """Loads a `.keras` file of a defended model, with the layers of this library known."""
    if "://" not in str(path):  # Other places are Keras's own.
        check_keras_file(path)
    with readable(path, "a model"):
        model = keras.models.load_model(path)
    check_model(model, path)
    reject_node(model)
    return model
