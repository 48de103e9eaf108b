"""A network of the attacker's own: its adversarial examples often work on another network, and searches may begin there."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Bounds, Model, check_labels, check_number, checked_bounds, samples
from tfdefense.view import View

# Gradient steps, of 64 samples: half a minute for MNIST on two cores, seconds for 8x8 digits.
STEPS = 600
BATCH = 64


def substitute_network(
    x: ArrayLike,
    y: ArrayLike | None = None,
    classes: int | None = None,
    *,
    teacher: AnyModel = None,
    bounds: Bounds = (0.0, 1.0),
    steps: int = STEPS,
    most: int = 10_000,
    seed: int = 0,
) -> Model:
    """Trains a small network on an attacker's own samples, two convolutions and two dense layers. Vectors get no convolutions.

    Without enough labelled samples, pass the attacked model as `teacher`: the network learns its scores on the samples and on
    changed ones, with noise, shifted, and blended with another. That network is called "distilled", the other "substitute". One
    that was trained on data of its own is the better attacker.

    Args:
        x: Samples.
        y: Their classes; not needed with a teacher.
        classes: How many there are; None takes the teacher's, or the largest of `y` and one.
        teacher: A model whose scores are learned in place of `y`. What it rejects counts with the scores that it has.
        bounds: Lowest and highest pixel value.
        steps: Gradient steps of 64 samples.
        most: Samples that are used.
        seed: Of the choice of samples, the weights and the order. The caller's random state is left alone.

    Returns:
        A Keras model from pixels to logits.

    Example:

    >>> network = substitute_network(x_train, y_train, steps=50)
    >>> network(x).shape
    TensorShape([8, 10])
    >>> start = td.attacks.Transferred(network, at_boundary=True)

    Reference: Papernot et al., 2017, Practical black-box attacks against machine learning.
    """
    check_number("steps", steps, low=1, whole=True)
    check_number("most", most, low=1, whole=True)
    bounds, x = checked_bounds(bounds), np.asarray(samples(x), "float32")
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(x))[:most]
    if teacher is None:
        if y is None:
            raise ValueError("Expected the classes `y` of the samples, or a `teacher` to learn from. Received neither.")
        labels = np.asarray(y)
        classes = int(labels.max()) + 1 if classes is None else classes
        y = check_labels(labels, "y", samples=len(x), classes=classes).astype("int32")[rows]
        batches = _labelled(x[rows], y, rng)
    else:
        view = View.of(teacher, bounds)
        view.expect(x)
        classes = view.classes
        batches = _taught(x[rows], view, rng)
    network, name = _network(x.shape[1:], classes, bounds, seed), "substitute" if teacher is None else "distilled"
    _train(network, batches, steps)
    network.name = name
    return network


def _labelled(x, y, rng):
    """Batches for ever, each sample once in a round."""
    while True:
        order = rng.permutation(len(x))
        for first in range(0, len(x), BATCH):
            rows = order[first : first + BATCH]
            # All of one size: another one would be traced anew.
            rows = np.concatenate([rows, rng.integers(0, len(x), BATCH - len(rows))])
            yield x[rows], y[rows]


def _taught(x, view, rng):
    """Batches for ever of changed samples, with the probabilities that the teacher gives them."""
    import tensorflow as tf

    low, high = view.bounds
    span = high - low if np.isfinite(high - low) else float(x.std()) or 1.0
    while True:
        some = x[rng.integers(0, len(x), BATCH)]
        row = (-1,) + (1,) * (x.ndim - 1)
        other, share = x[rng.integers(0, len(x), BATCH)], rng.uniform(0, 0.5, BATCH).reshape(row)
        some = np.where(rng.uniform(size=BATCH).reshape(row) < 0.5, some, (1 - share) * some + share * other)
        if x.ndim == 4:
            most = max(1, x.shape[1] // 14)
            some = np.stack([np.roll(one, rng.integers(-most, most + 1, 2), (0, 1)) for one in some])
        noise = rng.uniform(0, 0.1, BATCH).reshape(row) * span * rng.standard_normal(some.shape)
        some = np.clip(some + noise, low, high).astype("float32")
        yield some, tf.nn.softmax(view.run(some)[0]).numpy()


def _network(shape, classes, bounds, seed):
    import keras

    low, high = bounds if np.isfinite(bounds[1] - bounds[0]) else (0.0, 1.0)
    image = keras.Input(shape)
    hidden = keras.layers.Rescaling(1 / (high - low), -low / (high - low))(image)
    if len(shape) == 3:
        for number, filters in enumerate((16, 32)):
            hidden = keras.layers.Conv2D(
                filters, 3, padding="same", activation="relu", kernel_initializer=keras.initializers.HeNormal(seed + number)
            )(hidden)
            hidden = keras.layers.MaxPooling2D(2, padding="same")(hidden)
    hidden = keras.layers.Flatten()(hidden)
    for number, (units, activation) in enumerate(((64, "relu"), (classes, None)), 2):
        initializer = keras.initializers.GlorotUniform(seed + number)
        hidden = keras.layers.Dense(units, activation=activation, kernel_initializer=initializer)(hidden)
    return keras.Model(image, hidden)


def _train(network, batches, steps):
    """Adam, annealed to nothing, on classes or on probabilities."""
    import keras
    import tensorflow as tf

    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(network.trainable_variables)
    first = next(batches)

    @tf.function(input_signature=[tf.TensorSpec(part.shape, part.dtype) for part in first], autograph=False)
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            if y.dtype.is_integer:
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
            else:
                loss = tf.nn.softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(loss)
        weights = network.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)

    for number in range(steps):
        step(*(first if number == 0 else next(batches)))
