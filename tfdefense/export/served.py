"""What an artifact computes: functions from a request to outputs by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tfdefense._validation import Model, Tensor


def served(model: Model, frozen: bool = False) -> Callable[..., dict[str, Tensor]]:
    """What an artifact computes: outputs by name from a batch, for inference.

    A batch of the wrong shape is an error: oneDNN ends the whole process over a convolution of the wrong rank. TensorFlow's
    convolutions know no empty batch either, so a sample is put in its place and its answer is left out.

    Args:
        model: A defended model or a plain classifier.
        frozen: For formats that know no operation that checks a shape. One that gives a shape fails where it can't.

    Example:

    >>> sorted(served(defended)(x))
    ['detector', 'label', 'reason', 'scores', 'suspicion']
    """
    import tensorflow as tf

    run, shape = _run(model, frozen), model.inputs[0].shape
    frozen = frozen and None not in shape[1:]

    def serve(x, *thresholds):
        count = tf.shape(x)[0]
        empty = tf.cast(count == 0, "int32")
        if frozen:
            x = tf.pad(tf.reshape(x, [count, math.prod(shape[1:])]), [[0, empty], [0, 0]])
            x = tf.reshape(x, [count + empty, *shape[1:]])
        else:
            x = tf.pad(tf.ensure_shape(x, shape), [[0, empty], *[[0, 0]] * (len(shape) - 1)])
        return {name: output[:count] for name, output in run(x, *thresholds).items()}

    return serve


def served_threshold(model: Model) -> tuple[Callable[[Tensor, Tensor], dict[str, Tensor]], Any] | None:
    """As `served`, with thresholds of the caller, and their specification. None where a model has no threshold to move.

    Shape (batch,), or (batch, detectors) where there are several; or one row for the whole batch. NaN is the calibrated one.

    Args:
        model: As for `served`.
    """
    import tensorflow as tf

    from tfdefense.contract import nodes_of
    from tfdefense.layers import Threshold
    from tfdefense.prediction.deciding import knows_reasons

    number = len(nodes_of(model, Threshold)) if knows_reasons(model) else 0
    if not number:
        return None
    serve, shape = served(model), (None,) if number == 1 else (None, number)

    def serve_threshold(x, threshold):
        count, rows = tf.shape(x)[0], tf.shape(threshold)[0]
        # Neither a row too many nor one too few is guessed at.
        with tf.control_dependencies([tf.debugging.Assert((rows == 1) | (rows == count), ["one threshold a sample, or one"])]):
            row = tf.fill([tf.cast(rows == 0, "int32"), *shape[1:]], float("nan"))
            return serve(x, tf.concat([threshold, row], axis=0))

    return serve_threshold, tf.TensorSpec(shape, "float32", name="threshold")


def served_uint8(model: Model) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """As `served`, for pixels from 0 to 255. None where the model does not say what range they are to be moved to.

    Args:
        model: As for `served`.
    """
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


def served_image(model: Model, resize: bool = False) -> Callable[[Tensor], dict[str, Tensor]]:
    """As `served`, for files: strings of JPEG or PNG, which are decoded in the graph.

    Args:
        model: As for `served`.
        resize: Whether pictures of another size are moved to the model's, bilinearly. Without it they are an error.
    """
    import tensorflow as tf

    serve, shape = served_uint8(model), model.inputs[0].shape
    if serve is None or len(shape) != 4 or shape[-1] not in (1, 3):
        raise ValueError(
            "Only a defended model of pictures, with bounds and 1 or 3 channels, can be given files. Received one of shape "
            f"{tuple(shape)}. Leave `decode` out."
        )
    if None in shape[1:3] and resize:
        raise ValueError(f"The model takes pictures of any size, {tuple(shape)}: there is none to resize to. Leave `resize` out.")

    def decoded(content):
        # It reads PNG too. The accurate transform is that of PIL.
        image = tf.io.decode_jpeg(content, channels=shape[-1], dct_method="INTEGER_ACCURATE")
        if resize:
            image = tf.cast(tf.round(tf.image.resize(image, shape[1:3], antialias=True)), "uint8")
        return tf.ensure_shape(image, shape[1:])

    def serve_image(image_bytes):
        images = tf.map_fn(decoded, image_bytes, fn_output_signature=tf.TensorSpec(shape[1:], "uint8"))
        return serve(tf.ensure_shape(images, shape))

    return serve_image


def _run(model, frozen):
    """The outputs of a model as a function; of a defended one with the reasons, which its graph leaves out."""
    from tfdefense.prediction.deciding import decider, knows_reasons

    if not knows_reasons(model):
        return lambda x: _outputs(model, x)
    decide = decider(model)
    if not frozen:
        return decide
    # Formats for devices keep to what their readers know.
    return lambda x: {name: output for name, output in decide(x).items() if name != "detector"}


def spec_of(model: Model, dtype: str | None = None) -> Any:
    """What a model takes, as TensorFlow specifies it."""
    import tensorflow as tf

    image = model.inputs[0]
    return tf.TensorSpec(image.shape, dtype or image.dtype, name=image.name)


def _outputs(model, x):
    outputs = model(x, training=False)
    if isinstance(outputs, dict):
        return outputs
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    return {f"output_{index}": output for index, output in enumerate(outputs)}
