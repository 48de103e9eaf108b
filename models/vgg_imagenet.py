"""A small network in the fashion of VGG for ten classes of ImageNet at 96x96 pixels."""

import keras


def vgg_imagenet(input_shape=(96, 96, 3), classes=10, width=16, dropout=0.5):
    """Two 3x3 convolutions and a pooling in each of five blocks, and one hidden dense layer.

    VGG16 has the same five poolings; the detector branch is attached behind the fourth, `pool_4`. Much narrower than
    VGG16, and with batch normalisation, so that it trains from nothing on a CPU.

    Args:
        input_shape: Height, width and channels; at least 32 pixels a side, as there are five poolings.
        classes: Number of logits.
        width: Filters of the first block; each next one has twice as many, up to 8 times.
        dropout: Share dropped before the logits while training.

    Reference: Simonyan and Zisserman, 2015, Very deep convolutional networks for large-scale image recognition.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 32:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 32 pixels a side. "
            f"Received {tuple(input_shape)}. For smaller images use `models.vgg_small.vgg_small`."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x, number = image, 0
    for block in range(5):
        for _ in range(2):
            number += 1
            x = layers.Conv2D(width * min(2**block, 8), 3, padding="same", use_bias=False, name=f"conv_{number}")(x)
            x = layers.ReLU(name=f"relu_{number}")(layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(x))
        x = layers.MaxPooling2D(2, name=f"pool_{block + 1}")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(16 * width, activation="relu", name="dense_1")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg_imagenet")
