"""A residual network of nine layers for small images, wide and shallow: made to train in minutes on a GPU, in hours on CPUs."""

import keras

FEATURES = "pool"


def resnet9(input_shape=(32, 32, 3), classes=10, width=24):
    """Eight 3x3 convolutions with batch normalisation and ReLU, three poolings, two residual blocks, and a dense layer.

    At a width of 64 it is the network of the reference but for its last pooling, which takes the mean where that takes the
    maximum, and for the factor that it puts before the softmax. No feature is below 0. `pool` is the last hidden layer, eight
    times as wide as the first; `block_1` and `block_2` are the outputs of the residual blocks.

    Args:
        input_shape: Height, width and channels; at least 8 pixels a side, as there are three poolings.
        classes: Number of logits.
        width: Filters of the first convolution; the others have two, four and eight times as many. 24 gives 0.9 million weights.

    Reference: Page, 2018, How to train your ResNet, https://github.com/davidcpage/cifar10-fast.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 8:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with at least 8 pixels a side. Received {tuple(input_shape)}."
        )
    if not isinstance(width, int) or width < 1:
        raise ValueError(f"`width` must be a whole number of at least 1. Received {width!r}.")
    layers = keras.layers

    def convolution(x, times, name):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
        x = layers.Conv2D(times * width, 3, **options, name=f"{name}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x)
        return layers.ReLU(name=f"{name}_relu")(x)

    def halved(x, times, name):
        return layers.MaxPooling2D(2, name=f"{name}_pool")(convolution(x, times, name))

    def block(x, name):
        times = x.shape[-1] // width
        return layers.Add(name=name)([x, convolution(convolution(x, times, f"{name}_1"), times, f"{name}_2")])

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1.0, offset=-0.5, name="shift")(image)
    x = convolution(x, 1, "first")
    x = block(halved(x, 2, "second"), "block_1")
    x = halved(x, 4, "third")
    x = block(halved(x, 8, "fourth"), "block_2")
    x = layers.GlobalAveragePooling2D(name=FEATURES)(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="resnet_9")
