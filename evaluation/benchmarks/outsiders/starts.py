"""Where the own attack starts besides the sample: accepted images of other classes, and examples of a network of its own."""

import keras
import numpy as np
import tensorflow as tf

EPOCHS, SAMPLES = 3, 20_000


def nearest(x, y, pool, pool_y, number):
    """For each sample the nearest image of each of the nearest wrong classes: arrays like x, the nearest class first."""
    flat, others = x.reshape(len(x), -1), pool.reshape(len(pool), -1)
    distance = (flat**2).sum(1)[:, None] + (others**2).sum(1) - 2 * flat @ others.T
    classes = np.unique(pool_y)
    index = np.stack([np.flatnonzero(pool_y == each)[distance[:, pool_y == each].argmin(1)] for each in classes], axis=1)
    far = np.take_along_axis(distance, index, 1)
    far[classes == y[:, None]] = np.inf
    order = far.argsort(1)[:, : min(number, len(classes) - 1)]
    return [pool[each] for each in np.take_along_axis(index, order, 1).T]


def network(x, y, classes):
    """Logits of a small network that shares nothing but the data with the attacked one; that of rejection never leads."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            layers.Input(x.shape[1:]),
            layers.Conv2D(16, 3, strides=2 if x.shape[1] > 8 else 1, padding="same", activation="relu"),
            layers.Conv2D(32, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(classes),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    steps = max(1, len(x) // 64)
    model.fit(x, y, batch_size=64, epochs=max(EPOCHS, 600 // steps), verbose=0)

    def logits(images):
        scores = model(images, training=False)
        return tf.concat([scores, tf.reduce_min(scores, 1, keepdims=True) - 10.0], 1)

    return logits
