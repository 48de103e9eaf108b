"""The MNIST network of Carlini and Wagner (2017), which Deep Neural Rejection and most attack papers use."""

import keras


def carlini_cnn(input_shape=(28, 28, 1), classes=10, dropout=0.5):
    """Two blocks of two 3x3 convolutions and three dense layers; `dense_1`, `dense_2` and `logits` are the last three.

    Args:
        input_shape: Height, width and channels; at least 16 pixels a side, as the convolutions do not pad.
        classes: Number of logits.
        dropout: Share dropped between the two hidden dense layers while training.

    Reference: Carlini and Wagner, 2017, Towards Evaluating the Robustness of Neural Networks, table 1.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 16:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 16 pixels a side. "
            f"Received {tuple(input_shape)}. For smaller images use `models.small.digits_cnn`."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x = image
    for block, filters in enumerate((32, 64)):
        for number in (2 * block + 1, 2 * block + 2):
            x = layers.Conv2D(filters, 3, activation="relu", name=f"conv_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{block + 1}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(200, activation="relu", name="dense_1")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = layers.Dense(200, activation="relu", name="dense_2")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="carlini_cnn")
