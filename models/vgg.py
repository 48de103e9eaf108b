"""VGG16 for small images, and narrower ones that train on a few cores."""

import keras

FEATURES = "dense_2"
BLOCKS = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))  # convolutions, and filters as a multiple of the width
MEAN = 0.4734  # of CIFAR-10's training pixels


def vgg16(input_shape=(32, 32, 3), classes=10, width=64, dropout=0.5):
    """Thirteen 3x3 convolutions in five blocks and three dense layers; `dense_2` is the last hidden one.

    Batch normalisation behind each convolution is not in the paper of 2015, which had to train shallow networks first; the
    dense layers have 8 * width units where that had 4096, as usual for images of 32 pixels. Images are taken in [0, 1] and
    CIFAR-10's mean is subtracted inside: attacks and rejection then speak of pixels in one unit for all networks.

    Args:
        input_shape: Height, width and channels; at least 32 pixels a side, as there are five poolings.
        classes: Number of logits; with a dustbin one more than there are classes.
        width: Filters of the first block. 64 is VGG16; 16 costs a sixteenth of it.
        dropout: Share dropped behind each hidden dense layer while training.

    Reference: Simonyan and Zisserman, 2015, Very deep convolutional networks for large-scale image recognition, table 1, D.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 32:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 32 pixels a side. "
            f"Received {tuple(input_shape)}. For smaller images use `models.cuda_convnet.cuda_convnet`."
        )
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"`width` must be a whole number of at least 1, such as 64 or 16. Received {width!r}.")
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x, number = layers.Rescaling(1.0, offset=-MEAN, name="shift")(image), 0
    for block, (convolutions, multiple) in enumerate(BLOCKS, 1):
        for _ in range(convolutions):
            number += 1
            options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
            x = layers.Conv2D(multiple * width, 3, **options, name=f"conv_{number}")(x)
            x = layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(x)
            x = layers.ReLU(name=f"relu_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{block}")(x)
    x = layers.Flatten(name="flatten")(x)
    for number in (1, 2):
        x = layers.Dense(8 * width, activation="relu", name=f"dense_{number}")(x)
        x = layers.Dropout(dropout, name=f"dropout_{number}")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg16")
