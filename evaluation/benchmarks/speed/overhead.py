"""What attacks, training with them, a quick report and a suite cost beyond the passes that they must make.

Each stands beside its bare form, in a process of its own.
"""

import os
import statistics
import time

from evaluation.benchmarks.speed import report
from evaluation.benchmarks.speed.alone import alone
from evaluation.benchmarks.speed.protocol import RECIPES

DATASETS = ("mnist", "digits")

BATCH, SMALL, TURNS = 128, 32, 7
# Of the random start: the ball and the steps of Madry et al. at a length that keeps a turn short.
EPSILON, STEPS = 0.1, 5


def measure(model_path, dataset, data_dir, turns=TURNS):
    """By name, the CPU time over that of the bare form in the same turn; the median over turns."""
    import keras

    from tfdefense import data

    train = data.load(dataset, "train", data_dir=data_dir, limit=1000)

    def network():
        return keras.models.load_model(model_path, compile=False)

    # First, while nothing of this process has seen such a network.
    found = {"first attack": _first_attack(network, train)}
    for name, make in (("Square", _square), ("Carlini-Wagner", _carlini), ("training with a random start", _training)):
        ours, bare = make(network(), train)
        ratios = []
        for turn in range(turns + 1):
            ratio = ours() / bare()
            if turn:
                ratios.append(ratio)
        found[name] = statistics.median(ratios)
    return found


def _cpu(run):
    begun = time.process_time()
    run()
    return time.process_time() - begun


def _gradient(model):
    """One pass, forward and back to the input."""
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, *model.input_shape[1:])), tf.TensorSpec((None,), tf.int32)], autograph=False)
    def gradient(x, y):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False))
        return tape.gradient(loss, x)

    return gradient


def _first_attack(network, train):
    """The first attack on a model over the first gradient of another of the kind; TensorFlow has run both on a third."""
    import tensorflow as tf

    from tfdefense.attacks import PGD

    x, y = train.x[:BATCH], train.y[:BATCH].astype("int32")

    def attack(model):
        return _cpu(lambda: PGD(EPSILON, steps=1, starts="sample")(model, x, y, regardless=True))

    def compiled(model):
        return _cpu(lambda: _gradient(model)(tf.constant(x), tf.constant(y)).numpy())

    third = network()
    compiled(third), attack(third)
    ratios = [attack(network()) / compiled(network()) for _ in range(3)]
    return statistics.median(ratios)


def _square(model, train):
    """A query, of a sample that stays, over a pass forward of the same batch."""
    import tensorflow as tf

    from tfdefense.attacks import Square

    x = train.x[:SMALL]
    y = model.predict(x, verbose=0).argmax(1).astype("int32")
    forward = tf.function(lambda x: model(x, training=False), autograph=False)
    # So small that none succeeds and leaves the batch.
    attack = Square(1e-4, queries=100)
    return (
        lambda: _cpu(lambda: attack(model, x, y)) / (attack.queries + 2),
        lambda: _cpu(lambda: [forward(tf.constant(x)).numpy() for _ in range(attack.queries)]) / attack.queries,
    )


def _carlini(model, train):
    """A step of a small batch over a pass of it."""
    import tensorflow as tf

    from tfdefense.attacks import CarliniWagner

    x = train.x[:SMALL]
    y = model.predict(x, verbose=0).argmax(1).astype("int32")
    gradient, steps = _gradient(model), 50
    attack = CarliniWagner(steps=steps, binary_search_steps=2, early_stop=False)
    return (
        lambda: _cpu(lambda: attack(model, x, y)) / (2 * steps),
        lambda: _cpu(lambda: [gradient(tf.constant(x), tf.constant(y)).numpy() for _ in range(2 * steps)]) / (2 * steps),
    )


def _training(model, train):
    """An epoch of `AdversarialTraining` over a loop by hand that does the same."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdefense as td

    x, y = train.x[: 6 * BATCH], train.y[: 6 * BATCH].astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    attack = td.attacks.PGD(EPSILON, steps=STEPS, random_start=True, momentum=0.0)
    trainer = td.AdversarialTraining(model, attack)
    trainer.compile("adam", loss)
    other, optimizer, lengths = keras.models.clone_model(model), keras.optimizers.Adam(), [float(one) for one in attack.lengths]
    other.set_weights(model.get_weights())

    @tf.function(autograph=False)
    def step(x, y):
        at = tf.clip_by_value(x + tf.random.uniform(tf.shape(x), -EPSILON, EPSILON), 0, 1)
        for length in lengths:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(at)
                cost = tf.nn.sparse_softmax_cross_entropy_with_logits(y, other(at, training=False))
            at = at + length * tf.sign(tape.gradient(cost, at))
            at = tf.clip_by_value(x + tf.clip_by_value(at - x, -EPSILON, EPSILON), 0, 1)
        with tf.GradientTape() as tape:
            cost = loss(y, other(at, training=True))
        variables = other.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(cost, variables), variables, strict=True))
        return cost

    def by_hand():
        for first in np.arange(0, len(x), BATCH):
            step(tf.constant(x[first : first + BATCH]), tf.constant(y[first : first + BATCH])).numpy()

    return lambda: _cpu(lambda: trainer.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)), lambda: _cpu(by_hand)


def add_rows(context, found):
    bare = {
        "first attack": "the first gradient of the model",
        "Square": "a query over a pass forward",
        "Carlini-Wagner": "a step over a pass",
        "training with a random start": "a loop by hand",
    }
    for name, ratio in found.items():
        size = SMALL if name in ("Square", "Carlini-Wagner") else BATCH
        context.row("speed.overhead", "time ratio", ratio, system=name, of=bare[name], n=size)


def run(context):
    model = context.network(RECIPES[context.dataset])
    place = (str(model.resolve()), context.dataset, context.data_dir and os.path.abspath(context.data_dir))
    add_rows(context, context.part("overhead", alone, measure, *place, 1 if context.quick else TURNS))
    report.add_rows(context, context.part("report", alone, report.measure, *place[1:], 10 if context.quick else 100))
