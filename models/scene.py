"""Networks on pictures with depth: a VGG of four channels that tells real from forged, and one that guesses depth."""

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
    if len(input_shape) != 3 or min(input_shape[:2]) < 32 * shrink:
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with at least {32 * shrink} pixels a side. "
            f"Received {tuple(input_shape)}. Pictures with depth are (96, 128, 4)."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x, number = image, 0
    if edges:
        x = layers.Concatenate(name="seen")([image, *_edges(image)])
    if shrink > 1:
        x = layers.AveragePooling2D(shrink, name="shrink")(x)
    if edges:
        fit, overall_fit = _fits(x[..., 4:5], x[..., 5:6])
        x = layers.Concatenate(name="near")([x, *_near(x)])
    # Edges are rare: as they are, they would hardly be heard beside the colours.
    x = layers.BatchNormalization(momentum=0.9, center=False, scale=False, name="norm_seen")(x)
    for block in range(5):
        for _ in range(2):
            number += 1
            x = _convolution(x, width * min(2**block, 8), str(number))
        if block == 0:
            # How often something is seen at all, which poolings of the largest forget.
            overall = layers.GlobalAveragePooling2D(name="overall")(x)
        x = layers.MaxPooling2D(2, name=f"pool{block + 1}")(x)
        if block == 2 and edges:
            x = layers.Concatenate(name="fitted")([x, layers.BatchNormalization(momentum=0.9, name="norm_fit")(fit)])
    overall = [overall, layers.BatchNormalization(momentum=0.9, name="norm_overall_fit")(overall_fit)] if edges else [overall]
    x = layers.Concatenate(name="joined")([layers.Flatten(name="flatten")(x), *overall])
    for name in ("fc6", "fc7"):
        x = layers.Dense(16 * width, activation="relu", name=name)(x)
        x = layers.Dropout(dropout, name=f"dropout_{name}")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg_scene")


def depth_net(input_shape=(96, 128, 3), width=12):
    """Guesses a depth map from a picture: five levels down and up again, each level up sees the same level on the way down.

    Args:
        input_shape: Height, width and channels; sides that are multiples of 16.
        width: Filters at full size; each level down has twice as many, up to 8 times.

    The output is as high and wide as the picture, with one channel, 1 being the largest depth.
    """
    if len(input_shape) != 3 or any(side < 16 or side % 16 for side in input_shape[:2]):
        raise ValueError(
            f"`input_shape` must be (height, width, channels) with sides that are multiples of 16. Received {tuple(input_shape)}."
        )
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x, levels = layers.Rescaling(2.0, offset=-1.0, name="shift")(image), []
    for level in range(5):
        if level:
            x = layers.MaxPooling2D(2, name=f"pool_{level}")(x)
        x = _convolution(x, width * min(2**level, 8), f"down_{level}")
        if level > 1:
            x = _convolution(x, width * min(2**level, 8), f"down_{level}_2")
        levels.append(x)
    for level in (3, 2, 1, 0):
        x = layers.UpSampling2D(2, interpolation="bilinear", name=f"up_{level}")(x)
        x = layers.Concatenate(name=f"join_{level}")([x, levels[level]])
        x = _convolution(x, width * min(2**level, 4), f"out_{level}")
    return keras.Model(image, layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="depth")(x), name="depth_net")


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


def _convolution(x, filters, number):
    x = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"conv_{number}")(x)
    return keras.layers.ReLU(name=f"relu_{number}")(keras.layers.BatchNormalization(momentum=0.9, name=f"norm_{number}")(x))
