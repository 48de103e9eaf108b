"""A network for tests and demonstrations: seconds to train on scikit-learn's 8x8 digits, above 97 % there."""

import keras


def digits_cnn(input_shape=(8, 8, 1), classes=10, dropout=0.0):
    """Two padded convolutions, one pooling, one hidden dense layer.

    Args:
        input_shape: Height, width and channels; at least 2 pixels a side.
        classes: Number of logits.
        dropout: Share dropped before the logits while training; 0 leaves the layer out.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 2:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 2 pixels a side. "
            f"Received {tuple(input_shape)}. A grey image of 8x8 pixels is (8, 8, 1)."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(16, 3, padding="same", activation="relu", name="conv_1")(image)
    x = layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_2")(x)
    x = layers.MaxPooling2D(2, name="pool_1")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, activation="relu", name="dense_1")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="digits_cnn")
