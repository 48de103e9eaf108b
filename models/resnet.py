"""Residual networks for small images, in the form that He et al. gave CIFAR-10: three stages of n blocks."""

import keras

FEATURES = "pool"


def resnet(input_shape=(32, 32, 3), classes=10, depth=32, l2=0.0):
    """A residual network of depth 6n + 2 with identity mappings: normalisation and ReLU come before each convolution.

    The reverse cross-entropy paper trains by the settings of He et al. (2016b), whose blocks these are. Images are taken in
    [0, 1] and shifted to the paper's [-0.5, 0.5] inside: attacks, data and rejection then speak of pixels in one unit for
    all networks, and no distance changes. `pool` is the last hidden layer, 64 wide; `stage_i_block_j` are the blocks' outputs.

    Args:
        input_shape: Height, width and channels; at least 4 pixels a side.
        classes: Number of logits.
        depth: 8, 14, 20, 26, 32, ... 56, ...
        l2: Weight of the squared convolution and dense weights in the loss; He et al. have 1e-4.

    Reference: He et al., 2016, Deep residual learning for image recognition; Identity mappings in deep residual networks.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 4:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with at least 4 pixels a side. Received {tuple(input_shape)}."
        )
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(f"`depth` must be 6n + 2: 8, 14, 20, 26, 32, 38, 44, 50, 56, ... Received {depth!r}.")
    layers = keras.layers

    def regularizer():
        return keras.regularizers.L2(l2) if l2 else None

    def convolution(x, filters, size, stride, name):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
        return layers.Conv2D(filters, size, stride, **options, kernel_regularizer=regularizer(), name=name)(x)

    def activated(x, name):
        return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_norm")(x))

    image = keras.Input(input_shape, name="image")
    x = layers.Rescaling(1.0, offset=-0.5, name="shift")(image)
    x = convolution(x, 16, 3, 1, "conv_1")
    for stage, filters in enumerate((16, 32, 64), 1):
        for block in range(1, (depth - 2) // 6 + 1):
            name = f"stage_{stage}_block_{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            inner = activated(x, f"{name}_1")
            # Where the size changes the shortcut is a 1x1 convolution of the activated input.
            shortcut = convolution(inner, filters, 1, stride, f"{name}_shortcut") if x.shape[-1] != filters else x
            inner = convolution(inner, filters, 3, stride, f"{name}_conv_1")
            inner = convolution(activated(inner, f"{name}_2"), filters, 3, 1, f"{name}_conv_2")
            x = layers.Add(name=name)([shortcut, inner])
    x = layers.GlobalAveragePooling2D(name=FEATURES)(activated(x, "last"))
    x = layers.Dense(classes, kernel_regularizer=regularizer(), name="logits")(x)
    return keras.Model(image, x, name=f"resnet_{depth}")
