from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from tfdefense._cuts import Inference
from tfdefense._validation import Model, check_labels, check_number
from tfdefense.calibration import run_batches
from tfdefense.graph import as_functional, expose, uncompiled
from tfdefense.layers import BinaryScores
from tfdefense.layers.scores import Energy


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
    exposed, dense, features = _last(copy)
    head = keras.layers.Dense(1, use_bias=dense.use_bias, name=name, dtype=dense.dtype_policy)
    score = head(features)
    head.set_weights([ops.mean(weight, axis=-1, keepdims=True) for weight in dense.weights])
    scores = keras.layers.Concatenate(name="with_dustbin")([exposed.logits, score])
    return keras.Model(exposed.input, scores, name=f"{model.name}_with_dustbin")


def _last(model):
    """Input and logits of a classifier, the Dense layer that they come from, and what it takes; in a submodel too."""
    exposed, path = expose(model), []
    history = exposed.logits._keras_history
    while isinstance(history.operation, keras.Model):
        path.append(history.operation.name)
        history = as_functional(history.operation).outputs[0]._keras_history
    dense = history.operation
    _check_last(dense)
    features = dense._inbound_nodes[history.node_index].arguments.keras_tensors[0]
    if path:
        name = "/".join([*path, features._keras_history.operation.name])
        exposed = expose(model, [name])
        features = exposed.taps[name]
    return exposed, dense, features


def _check_last(dense):
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


def graft_head(
    model: Model,
    x: ArrayLike,
    y: ArrayLike,
    ood: ArrayLike | None = None,
    *,
    strength: float = 1e-2,
    weight: float = 0.5,
    batch_size: int | None = None,
    name: str = "dustbin",
) -> Model:
    """A head for classes of your own, with a dustbin, on the last features of a classifier of many others, such as ImageNet's.

    The dustbin's score begins as the log-sum-exp of the old classifier's logits: what looks like any of its classes is known to the
    body, and is none of yours until a sample of yours says so. Each of your classes begins as the mean of the old ones, weighted by
    how often its samples are taken for each. All are then fitted by one logistic regression on the features, whose penalty pulls
    towards that beginning. The body stays as it is and its features are computed once. Behind it
    come `td.DustbinDefense` and `td.calibrate`.

    Args:
        model: A functional or Sequential Keras classifier that ends in a Dense layer. The new one shares its weights.
        x, y: Samples of your classes, and their classes from 0.
        ood: Samples of none of them, for the dustbin. Without any it stays the log-sum-exp, less a linear score that your samples
            bring down.
        strength: Inverse strength of the penalty, on features of unit variance.
        weight: What all of `ood` weigh together, in times of the samples of your classes.
        batch_size: Samples at once through the network; None as for `td.adapt`.
        name: Of the new model.

    Returns:
        A Keras model that gives classes + 1 logits, the dustbin's last.

    Example:

    >>> grafted = graft_head(model, x_train, y_train % 2, ood=1 - x_train[:100])
    >>> grafted.output_shape
    (None, 3)
    """
    exposed, dense, features = _last(model)
    if len(features.shape) != 2:
        raise ValueError(f"Expected a Dense layer on one row of features a sample. '{dense.name}' takes shape {features.shape}.")
    x = np.asarray(x)
    y = check_labels(y, samples=len(x))
    classes = int(y.max(initial=0)) + 1
    missing = sorted(set(range(classes)) - set(y.tolist()))
    if classes < 2 or missing:
        came = f"none of {missing[0]}" if missing else "one"
        raise ValueError(f"Expected samples of 2 classes or more, counted from 0. Received {came}.")
    for given, value in (("strength", strength), ("weight", weight)):
        check_number(given, value, above=True)
    cut, parts = Inference([exposed.input], [features, exposed.logits]), [x] if ood is None else [x, ood]
    found = [run_batches(cut, [np.asarray(part)], batch_size) for part in parts]
    seen, logits = (np.concatenate(every) for every in zip(*found, strict=True))
    taken = np.stack([np.bincount(logits[: len(y)][y == one].argmax(1), minlength=logits.shape[1]) for one in range(classes)], 1)
    rows = taken / taken.sum(0)
    kernel, bias = _fitted_dustbin(seen, logits, rows, y, strength, weight)
    old = [ops.convert_to_numpy(value) for value in dense.weights]
    kernel[:, :classes] += old[0] @ rows
    bias[:classes] += old[1] @ rows if dense.use_bias else 0.0
    own = keras.layers.Dense(classes, name=f"{name}_classes")
    less = keras.layers.Dense(1, name=f"{name}_less")
    known = keras.layers.Reshape((1,), name=f"{name}_energy")(Energy(name=f"{name}_known")(exposed.logits))
    score = keras.layers.Subtract(name=f"{name}_score")([less(features), known])
    scores = keras.layers.Concatenate(name=f"with_{name}")([own(features), score])
    own.set_weights([kernel[:, :classes], bias[:classes]])
    less.set_weights([kernel[:, classes:], bias[classes:]])
    return keras.Model(exposed.input, scores, name=f"{model.name}_{name}")


def _fitted_dustbin(features, logits, rows, y, strength, weight):
    """What kernel and bias of classes and dustbin have beyond their beginning; what comes after the samples of `y` is OOD."""
    classes = rows.shape[1]
    mean, spread = features[: len(y)].mean(0), features[: len(y)].std(0) + 1e-6
    known = np.logaddexp.reduce(logits.astype("float64"), axis=1)
    others = len(features) - len(y)
    start = np.concatenate([logits @ rows, known[:, None]], axis=1)
    targets = np.eye(classes + 1)[np.concatenate([y, np.full(others, classes)])]
    each = np.repeat([1.0, weight * len(y) / max(others, 1)], [len(y), others])
    kernel, bias = soft_regression((features - mean) / spread, start, targets, each, strength)
    kernel = kernel / spread[:, None]
    return kernel.astype("float32"), (bias - mean @ kernel).astype("float32")


def soft_regression(x: Any, start: Any, targets: Any, weights: Any, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Kernel and bias of a logistic regression that is added to `start`, and whose targets are shares of the outputs.

    From zeros and with one-hot targets it is that of scikit-learn.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    x, (width, outputs) = x.astype("float64"), (x.shape[1], targets.shape[1])

    def loss(flat):
        kernel, bias = flat[:-outputs].reshape(width, outputs), flat[-outputs:]
        logs = log_softmax(start + x @ kernel + bias, axis=1)
        slope = weights[:, None] * (np.exp(logs) - targets)
        value = -(weights[:, None] * targets * logs).sum() + np.square(kernel).sum() / (2 * strength)
        return value, np.concatenate([(x.T @ slope + kernel / strength).ravel(), slope.sum(0)])

    found = minimize(loss, np.zeros((width + 1) * outputs), jac=True, method="L-BFGS-B", options={"maxiter": 500, "gtol": 1e-4})
    return found.x[:-outputs].reshape(width, outputs), found.x[-outputs:]
