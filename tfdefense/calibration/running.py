"""Parts of a model run on samples: checked, in batches, for inference."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfdefense._cuts import Inference as Inference
from tfdefense._progress import batches
from tfdefense._validation import Model, Samples, check_shape, samples
from tfdefense.contract import reject_node
from tfdefense.view import samples_at_once

# Samples from which compiling, about half a second, costs less than it saves.
COMPILED = 4096


def check_images(defended: Model, x: Samples) -> np.ndarray:
    """Samples as an array, or an error that says why the model would reject all of them.

    Args:
        defended: A defended model.
        x: Samples.
    """
    reject, _ = reject_node(defended)
    x = samples(x)
    check_shape(x, defended.inputs[0].shape)
    low, high = reject.bounds
    slack = 1e-6 * (high - low)
    # Past NaN, of which the model rejects its sample; `nanmin` warns where there is nothing else.
    least, most = np.fmin.reduce(x, axis=None), np.fmax.reduce(x, axis=None)
    if least < low - slack or most > high + slack:
        raise ValueError(
            f"Expected samples in ({low:g}, {high:g}), outside of which the model rejects. Received values in "
            f"[{least:g}, {most:g}]. Rescale them, or attach the defense with the bounds of your data: "
            "`attach(model, bounds=(0, 255))`, or `bounds=None` for features without a range."
        )
    return x


def run_batches(model: Any, x: Any, batch_size: int | None = None) -> list[np.ndarray]:
    """The outputs of a model as a list of arrays, for an array or a list of them. Few samples are run without compiling.

    Without `batch_size` as many samples go through at once as memory allows; see `samples_at_once`.

    Args:
        model: A Keras model.
        x: An array, or a list of them.
        batch_size: Samples at once.

    Example:

    >>> [output.shape for output in run_batches(model, x, batch_size=3)]
    [(8, 10)]
    """
    parts, first = [], x[0] if isinstance(x, list) else x
    size = batch_size or samples_at_once(model, first)
    model = _compiled(model, x) if len(first) >= COMPILED else model
    for part in batches(len(first), size):
        batch = [array[part] for array in x] if isinstance(x, list) else x[part]
        outputs = keras.tree.flatten(_run(model, batch))
        parts.append([keras.ops.convert_to_numpy(output) for output in outputs])
    return [np.concatenate(part) for part in zip(*parts, strict=True)]


def _run(model, batch):
    return model(batch, training=False) if isinstance(model, keras.Model) else model(batch)


def _compiled(model, x):
    """A function of its own, which sees the variables that the layers have now; the model as it is under JAX."""
    if keras.backend.backend() != "tensorflow":
        return model
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), x)
    return tf.function(lambda batch: _run(model, batch), input_signature=[specs], autograph=False)


def forget_compiled(model: Model) -> None:
    """Makes a model trace its functions anew: layers whose number of weights follows from data may have new variables."""
    for name in ("train", "test", "predict"):
        if getattr(model, f"{name}_function", None) is not None:
            getattr(model, f"make_{name}_function")(force=True)
