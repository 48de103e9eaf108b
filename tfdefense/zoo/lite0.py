"""EfficientNet-Lite0, and its weights by the names that the PyTorch file has.

It is here and not in `models/`, which is no part of what `pip install` brings. Keras alone, as there.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras

from tfdefense._validation import Model

FEATURES = "features"
SIDE = 224  # pixels of the images that it was trained on
# Blocks in a row, side of the kernel, stride of the first, times as many channels within, channels of the output.
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192))
_STAGES += ((1, 3, 1, 6, 320),)
# How the file calls the layers of a block.
_IN_BLOCK = {"expand": "_expand_conv", "expand_norm": "_bn0", "depthwise": "_depthwise_conv", "depthwise_norm": "_bn1"}
_IN_BLOCK |= {"project": "_project_conv", "project_norm": "_bn2"}
_OUTSIDE = {"stem": "_conv_stem", "stem_norm": "_bn0", "head": "_conv_head", "head_norm": "_bn1", "logits": "_fc"}
# ImageNet's logits beside a head of other classes, which is then called "logits".
_OUTSIDE["imagenet_logits"] = "_fc"
_WEIGHTS = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
_WEIGHTS |= {"moving_mean": "running_mean", "moving_variance": "running_var"}


def efficientnet_lite0(
    input_shape: tuple[int, int, int] = (SIDE, SIDE, 3), classes: int = 1000, dropout: float = 0.2, side: int = SIDE
) -> Model:
    """EfficientNet-Lite0: inverted residual blocks with ReLU6, no squeeze-and-excitation, 4.7 million weights.

    Images are taken in [0, 1], as attacks, data and rejection have them for all networks here, and scaled inside to the
    (pixel - 127) / 128 of its training. `features` is the last hidden layer, 1280 wide; `block_1` to `block_16` are the
    outputs of the blocks.

    Args:
        input_shape: Height, width and 3 channels.
        classes: Number of logits.
        dropout: Share dropped before the logits while training.
        side: Images of another height or width are resized to so many pixels inside, bilinearly: a model of small images is
            then attacked in their own pixels. It was trained at 224.

    Reference: Tan and Le, 2019, EfficientNet: rethinking model scaling for convolutional neural networks; the Lite variants are
    those of its authors' repository, 2020.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 1 or input_shape[2] != 3:
        raise ValueError(f"`input_shape` must be (height, width, 3): colour. Received {tuple(input_shape)}.")
    if not isinstance(side, int) or side < 32:
        raise ValueError(f"`side` must be a whole number of at least 32 pixels. Received {side!r}.")
    layers = keras.layers

    def norm(x, name, active=True):
        x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_norm")(x)
        return layers.ReLU(6.0, name=f"{name}_relu")(x) if active else x

    def convolution(x, channels, size, stride, name):
        return layers.Conv2D(channels, size, stride, padding="same", use_bias=False, name=name)(x)

    image = keras.Input(input_shape, name="image")
    x = image if tuple(input_shape[:2]) == (side, side) else layers.Resizing(side, side, name="resize")(image)
    x = layers.Rescaling(255 / 128, offset=-127 / 128, name="scale")(x)
    x, number = norm(convolution(x, 32, 3, 2, "stem"), "stem"), 0
    for count, size, first_stride, times, channels in _STAGES:
        for stride in (first_stride, *[1] * (count - 1)):
            number += 1
            name, start = f"block_{number}", x
            if times > 1:
                x = norm(convolution(x, times * x.shape[-1], 1, 1, f"{name}_expand"), f"{name}_expand")
            x = layers.DepthwiseConv2D(size, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
            x = convolution(norm(x, f"{name}_depthwise"), channels, 1, 1, f"{name}_project")
            x = norm(x, f"{name}_project", active=False)
            if stride == 1 and start.shape[-1] == channels:
                x = layers.Add(name=name)([x, start])
    x = norm(convolution(x, 1280, 1, 1, "head"), "head")
    x = layers.GlobalAveragePooling2D(name=FEATURES)(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="efficientnet_lite0")


def named_weights(model: Model, body: bool = False) -> Iterator[tuple[keras.Variable, str, str]]:
    """Each weight of the network in a model, what it is, and its name in the file; with `body` not those of "logits".

    Logits of ImageNet beside a head are called "imagenet_logits". Layers that are not the network's, such as a defense, are
    passed over.
    """
    for layer in model.layers:
        name = layer.name
        if name in _OUTSIDE and not (body and name == "logits"):
            prefix = _OUTSIDE[name]
        elif name.startswith("block_") and name.split("_", 2)[-1] in _IN_BLOCK:
            _, number, part = name.split("_", 2)
            prefix = f"_blocks.{int(number) - 1}.{_IN_BLOCK[part]}"
        else:
            continue
        for weight in layer.weights:
            yield weight, type(layer).__name__, f"{prefix}.{_WEIGHTS[weight.name]}"


def as_keras(kind: str, array):
    """A weight as Keras has it: channels last, and of a dense layer turned round."""
    if kind == "Conv2D" and array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if kind == "DepthwiseConv2D" and array.ndim == 4:
        return array.transpose(2, 3, 0, 1)
    return array.T if kind == "Dense" else array
