"""The small MNIST network of Wong and Kolter (2018), on which adversarial training takes minutes on a CPU."""

import keras


def wong_cnn(input_shape=(28, 28, 1), classes=10):
    """Two 4x4 convolutions of stride 2, a dense layer of 100; `conv_1`, `conv_2` and `dense_1` are the hidden layers.

    Args:
        input_shape: Height, width and channels; at least 4 pixels a side.
        classes: Number of logits.

    Reference: Wong and Kolter, 2018, Provable defenses against adversarial examples via the convex outer adversarial polytope;
    Wong et al., 2020, Fast is better than free.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 4:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with at least 4 pixels a side. Received {tuple(input_shape)}."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x = layers.Conv2D(16, 4, strides=2, padding="same", activation="relu", name="conv_1")(image)
    x = layers.Conv2D(32, 4, strides=2, padding="same", activation="relu", name="conv_2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(100, activation="relu", name="dense_1")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="wong_cnn")
