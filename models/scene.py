"""Networks on pictures with depth: a VGG and a ResNet of four channels that tell real from forged, and one that guesses depth."""

import keras

# Pixels, once shrunk, by which depth is moved against the picture to see whether it fits better elsewhere.
MOVES = (5, 10)


def vgg_scene(input_shape=(96, 128, 4), classes=2, width=16, dropout=0.5, shrink=2, edges=True):
    """Two 3x3 convolutions and a pooling in each of five blocks, and two hidden dense layers.

    `pool5`, `fc6` and `fc7` are what SceneProof's detectors C, B and A watch. VGG19 has the same five poolings and layers by
    these names; this one is narrower, and normalised, so that it trains from nothing on a CPU.

    Args:
        input_shape: Height, width and channels: colours and depth; at least 32 pixels a side once shrunk.
        classes: Number of logits.
        width: Filters of the first block; each next one has twice as many, up to 8 times.
        dropout: Share dropped behind each hidden dense layer while training.
        edges: Also show it where picture and depth have edges, where both do, at one place or near it, where both do along a
            straight line, and how well edges of depth that is moved fit those of the picture: few scenes do not teach it to
            compare them.
        shrink: Average so many pixels a side into one first; 2 costs a quarter.

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly, section 3.
    """
    layers, number = keras.layers, 0
    image = _input(input_shape, shrink)
    x, fits = _seen(image, shrink, edges)
    for block in range(5):
        for _ in range(2):
            number += 1
            x = _convolution(x, width * min(2**block, 8), str(number))
        if block == 0:
            # How often something is seen at all, which poolings of the largest forget.
            overall = layers.GlobalAveragePooling2D(name="overall")(x)
        x = layers.MaxPooling2D(2, name=f"pool{block + 1}")(x)
        if block == 2 and edges:
            x = layers.Concatenate(name="fitted")([x, layers.BatchNormalization(momentum=0.9, name="norm_fit")(fits[0])])
    overall = [overall, layers.BatchNormalization(momentum=0.9, name="norm_overall_fit")(fits[1])] if edges else [overall]
    x = layers.Concatenate(name="joined")([layers.Flatten(name="flatten")(x), *overall])
    for name in ("fc6", "fc7"):
        x = layers.Dense(16 * width, activation="relu", name=name)(x)
        x = layers.Dropout(dropout, name=f"dropout_{name}")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg_scene")


def resnet_scene(input_shape=(96, 128, 4), classes=2, depth=14, width=16, dropout=0.3, shrink=2, edges=True):
    """A residual network on the same channels as `vgg_scene`: what attacks of SceneProof are transferred from.

    Three stages of residual blocks; `stage_1`, `stage_2` and `stage_3` are their outputs, the last is averaged over the picture.

    Args:
        input_shape, classes, shrink, edges: As for `vgg_scene`.
        depth: 6n + 2 layers: 8, 14, 20, ...
        width: Filters of the first stage; each next one has twice as many.
        dropout: Share dropped before the logits while training.

    Reference: He et al., 2016, Deep residual learning for image recognition.
    """
    if not isinstance(depth, int) or depth < 8 or depth % 6 != 2:
        raise ValueError(f"`depth` must be 6n + 2: 8, 14, 20, 26, ... Received {depth!r}.")
    layers, blocks = keras.layers, (depth - 2) // 6
    image = _input(input_shape, shrink)
    x, fits = _seen(image, shrink, edges)
    x = _convolution(x, width, "1")
    for stage in (1, 2, 3):
        for block in range(1, blocks + 1):
            name, filters = f"stage_{stage}" if block == blocks else f"stage_{stage}_block_{block}", width * 2 ** (stage - 1)
            stride = 2 if stage > 1 and block == 1 else 1
            inner = _convolution(x, filters, f"{name}_1", stride)
            inner = _convolution(inner, filters, f"{name}_2", active=False)
            shortcut = _convolution(x, filters, f"{name}_shortcut", stride, 1, active=False) if x.shape[-1] != filters else x
            x = layers.ReLU(name=name)(layers.Add(name=f"{name}_sum")([shortcut, inner]))
        if stage == 2 and edges:
            # Fits are averages over 8 pixels, of which a pixel of this stage has seen 2 a side.
            fit = layers.UpSampling2D(4, name="fit_of_stage_2")(fits[0])
            x = layers.Concatenate(name="fitted")([x, layers.BatchNormalization(momentum=0.9, name="norm_fit")(fit)])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if edges:
        x = layers.Concatenate(name="joined")([x, layers.BatchNormalization(momentum=0.9, name="norm_overall_fit")(fits[1])])
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name=f"resnet_scene_{depth}")


def depth_net(input_shape=(96, 128, 3), width=16, dropout=0.3, shrink=2):
    """A U-Net that guesses a depth map from a picture: down to a sixteenth and up again, each level up sees the same level down.

    How far a room goes shows in the whole picture and in the height of a pixel, more than in what surrounds it: the lowest level
    also has an average over all, and every level where its pixels are.

    Args:
        input_shape: Height, width and channels; sides that are multiples of 16 times `shrink`.
        width: Filters of the first level; each level down has twice as many, up to 8 times.
        dropout: Share of the average over all dropped while training.
        shrink: Average so many pixels a side into one first. The last convolution sees the picture at full size again.

    The output is as high and wide as the picture, with one channel, 1 being the largest depth.

    Reference: Ronneberger et al., 2015, U-Net: convolutional networks for biomedical image segmentation.
    """
    if len(input_shape) != 3 or any(side < 16 * shrink or side % (16 * shrink) for side in input_shape[:2]):
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with sides that are multiples of {16 * shrink}. "
            f"Received {tuple(input_shape)}."
        )
    layers, ops = keras.layers, keras.ops
    image = keras.Input(input_shape, name="image")
    picture = layers.Rescaling(2.0, offset=-1.0, name="shift")(image)
    x = layers.AveragePooling2D(shrink, name="shrink")(picture) if shrink > 1 else picture
    ones = ops.ones_like(x[..., :1])
    # From 0 to 1 down and across.
    places = [ops.cumsum(ones, axis) / x.shape[axis] for axis in (1, 2)]
    x, levels = layers.Concatenate(name="placed")([x, *places]), []
    for level in range(5):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_{level}")(x)
        x = _convolution(x, width * min(2**level, 8), f"down_{level}")
        x = _convolution(x, width * min(2**level, 8), f"down_{level}_2") if level else x
        levels.append(x)
    overall = layers.Dense(x.shape[-1], activation="relu", name="overall")(layers.GlobalAveragePooling2D(name="average")(x))
    x = x + ops.expand_dims(layers.Dropout(dropout, name="dropout")(overall), (1, 2))
    for level in (3, 2, 1, 0):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up_{level}")(x)
        x = layers.Concatenate(name=f"join_{level}")([x, levels[level]])
        x = _convolution(x, width * min(2**level, 4), f"out_{level}")
    if shrink > 1:
        x = layers.UpSampling2D(shrink, interpolation="bilinear", name="up_full")(x)
        x = _convolution(layers.Concatenate(name="join_full")([x, picture]), 8, "out_full")
    # A third of the largest depth before anything is learned: rooms are about as deep.
    bias = keras.initializers.Constant(-0.7)
    x = layers.Conv2D(1, 3, padding="same", activation="sigmoid", bias_initializer=bias, name="depth")(x)
    return keras.Model(image, x, name="depth_net")


def _input(shape, shrink):
    if len(shape) != 3 or min(shape[:2]) < 32 * shrink:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with at least {32 * shrink} pixels a side. "
            f"Received {tuple(shape)}. Pictures with depth are (96, 128, 4)."
        )
    return keras.Input(shape, name="image")


def _seen(image, shrink, edges):
    """What the first convolution sees, shrunk and normalised, and how well edges fit where they are seen too."""
    layers, x, fits = keras.layers, image, None
    if edges:
        x = layers.Concatenate(name="seen")([image, *_edges(image)])
    if shrink > 1:
        x = layers.AveragePooling2D(shrink, name="shrink")(x)
    if edges:
        fits = _fits(x[..., 4:5], x[..., 5:6])
        x = layers.Concatenate(name="near")([x, *_near(x)])
    # Edges are rare: as they are, they would hardly be heard beside the colours.
    return layers.BatchNormalization(momentum=0.9, center=False, scale=False, name="norm_seen")(x), fits


def _edges(image):
    """Where the picture has edges, where depth has, where both do, and where both do along a straight line: from 0 to 1, at
    full size."""
    ops, found = keras.ops, []
    # Of depth a little at a time: noise of the last bits is no edge.
    depth = ops.average_pool(image[..., 3:], 3, strides=1, padding="same")
    for plane, typical in ((ops.mean(image[..., :3], -1, keepdims=True), 0.1), (depth, 0.01)):
        down = ops.pad(plane[:, 1:] - plane[:, :-1], [(0, 0), (0, 1), (0, 0), (0, 0)])
        across = ops.pad(plane[:, :, 1:] - plane[:, :, :-1], [(0, 0), (0, 0), (0, 1), (0, 0)])
        steep = ops.square(down) + ops.square(across)
        found.append(steep / (steep + typical**2))
    both = found[0] * found[1]
    # What was inserted has a frame whose edges lie on each other exactly.
    lines = [ops.average_pool(both, size, strides=1, padding="same") for size in ((1, 9), (9, 1))]
    return [*found, both, *lines]


def _fits(picture, depth):
    """How well the edges of depth, moved in eight directions or not at all, lie on those of the picture: a map, and in all."""
    ops = keras.ops
    # As strong edges of either plane would outweigh all others.
    picture, depth = (ops.sqrt(plane + 1e-4) for plane in (picture, depth))
    height, width, most = picture.shape[1], picture.shape[2], max(MOVES)
    around = ops.pad(depth, [(0, 0), (most, most), (most, most), (0, 0)])
    moves = [(0, 0), *((far * a, far * b) for far in MOVES for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b)]
    moved = ops.concatenate([around[:, most + a : most + a + height, most + b : most + b + width] for a, b in moves], -1)
    # Less what as many edges would do by chance.
    both = picture * moved - ops.mean(picture, (1, 2), keepdims=True) * ops.mean(moved, (1, 2), keepdims=True)
    return ops.average_pool(both, 8), ops.mean(both, (1, 2))


def _near(x):
    """Edges made wide, and those of each plane that have one of the other near: the two planes never lie on each other exactly."""
    found = {"picture": x[..., 4:5], "depth": x[..., 5:6]}
    wide = {
        name: keras.layers.MaxPooling2D(3, strides=1, padding="same", name=f"wide_{name}")(plane) for name, plane in found.items()
    }
    return [*wide.values(), found["depth"] * wide["picture"], found["picture"] * wide["depth"]]


def _convolution(x, filters, number, stride=1, size=3, active=True):
    """A convolution and a normalisation, and a ReLU where it is `active`."""
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    x = keras.layers.Conv2D(filters, size, stride, **options, name=f"conv_{number}")(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(x)
    return keras.layers.ReLU(name=f"relu_{number}")(x) if active else x
