from __future__ import annotations

import keras
from keras import ops

from tfdefense._validation import Model
from tfdefense.graph import as_functional, expose, uncompiled
from tfdefense.layers import BinaryScores


def graft_dustbin(model: Model, name: str = "dustbin_score") -> Model:
    """Gives a copy of a trained classifier with one score more, the dustbin's, ready for `DustbinDefense` and for training.

    All weights are kept. The new score begins as the mean of the others, which never is the largest: until it is trained,
    every decision is that of the old classifier.

    Args:
        model: A functional or Sequential Keras classifier that ends in a Dense layer, with or without a softmax. It stays
            as it is.
        name: Name of the new layer.

    Returns:
        A Keras model that gives classes + 1 logits.

    Example:

    >>> grafted = graft_dustbin(model)
    >>> grafted.output_shape
    (None, 11)
    """
    copy = keras.models.clone_model(uncompiled(as_functional(model)))
    copy.set_weights(model.get_weights())
    for layer in copy._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            # It computes with what it makes of its weights, and makes it only when told to.
            layer.finalize_state()
    exposed = expose(copy)
    history = exposed.logits._keras_history
    dense = history.operation
    if isinstance(dense, BinaryScores):
        raise ValueError(
            "Expected a classifier with one unit a class. Received one that ends in one unit with a sigmoid. Give it two, "
            "`Dense(2)`, and train that with `SparseCategoricalCrossentropy(from_logits=True)`."
        )
    if not isinstance(dense, keras.layers.Dense):
        raise ValueError(
            f"Expected a classifier whose scores come from a Dense layer. Received one that ends in '{dense.name}' "
            f"({type(dense).__name__}). Build it with one score more and train that: `td.DustbinDefense().attach(model)`."
        )
    features = dense._inbound_nodes[history.node_index].arguments.keras_tensors[0]
    head = keras.layers.Dense(1, use_bias=dense.use_bias, name=name, dtype=dense.dtype_policy)
    score = head(features)
    head.set_weights([ops.mean(weight, axis=-1, keepdims=True) for weight in dense.weights])
    scores = keras.layers.Concatenate(name="with_dustbin")([exposed.logits, score])
    return keras.Model(exposed.input, scores, name=f"{model.name}_with_dustbin")
