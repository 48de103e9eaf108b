"""cuda-convnet, the small network of three convolutions that out-distribution learning was tried on with MNIST."""

import keras

FEATURES = "features"


def cuda_convnet(input_shape=(28, 28, 1), classes=10, width=32, dropout=0.5):
    """Three 5x5 convolutions with overlapping pooling and one dense layer; `features` is the last hidden layer.

    The layers are those of Krizhevsky's `layers-18pct.cfg` without its response normalisation, which Keras does not have.
    Dropout before the dense layer is the paper's.

    Args:
        input_shape: Height, width and channels; at least 8 pixels a side, as there are three poolings.
        classes: Number of logits; with a dustbin one more than there are classes.
        width: Filters of the first two convolutions; the third has twice as many.
        dropout: Share of the features dropped while training.

    Reference: Abbasi et al., 2018, Towards dependable deep convolutional neural networks with out-distribution learning.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 8:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 8 pixels a side. "
            f"Received {tuple(input_shape)}. MNIST is (28, 28, 1), CIFAR-10 is (32, 32, 3)."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x = image
    for number, (filters, pooling) in enumerate(
        ((width, layers.MaxPooling2D), (width, layers.AveragePooling2D), (2 * width, layers.AveragePooling2D)), 1
    ):
        x = layers.Conv2D(filters, 5, padding="same", activation="relu", name=f"conv_{number}")(x)
        x = pooling(3, strides=2, padding="same", name=f"pool_{number}")(x)
    x = layers.Flatten(name=FEATURES)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="cuda_convnet")
