"""The light CIFAR-10 network of Deep Neural Rejection: pairs of convolutions with batch normalisation, VGG fashion."""

import keras


def vgg_small(input_shape=(32, 32, 3), classes=10, width=64, dropout=(0.1, 0.2, 0.3, 0.4)):
    """Seven 3x3 convolutions in four blocks and two dense layers; the paper watches `pool_3`, `norm_7` and `logits`.

    Args:
        input_shape: Height, width and channels; at least 16 pixels a side, as there are four poolings.
        classes: Number of logits.
        width: Filters of the first block; each next one has twice as many.
        dropout: Share dropped behind each pooling while training.

    The first dense layer has no activation, as in the paper's table.

    Reference: Sotgiu et al., 2020, Deep neural rejection against adversarial examples, table 1.
    """
    if len(input_shape) != 3 or min(input_shape[:2]) < 16:
        raise ValueError(
            "`input_shape` must be (height, width, channels) with at least 16 pixels a side. "
            f"Received {tuple(input_shape)}. For smaller images use `models.small.digits_cnn`."
        )
    if len(dropout) != 4:
        raise ValueError(f"`dropout` must hold four shares, one a block. Received {dropout!r}.")
    layers = keras.layers
    image = keras.Input(input_shape, name="image")
    x, number = image, 0
    for block, share in enumerate(dropout):
        for _ in range(1 if block == 3 else 2):
            number += 1
            x = layers.Conv2D(width * 2**block, 3, padding="same", name=f"conv_{number}")(x)
            x = layers.BatchNormalization(name=f"norm_{number}")(x)
            x = layers.ReLU(name=f"relu_{number}")(x)
        x = layers.MaxPooling2D(2, name=f"pool_{block + 1}")(x)
        x = layers.Dropout(share, name=f"dropout_{block + 1}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(8 * width, name="dense_1")(x)
    return keras.Model(image, layers.Dense(classes, name="logits")(x), name="vgg_small")
