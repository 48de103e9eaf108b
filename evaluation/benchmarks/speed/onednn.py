"""For `speed_defenses`: what oneDNN spares, which TensorFlow leaves alone on CPUs without AVX-512.

It is chosen before TensorFlow is imported: each measurement is a process of its own, with and without in turns.
"""

import json
import os
import statistics
import subprocess
import sys

from evaluation.runner.networks import ROOT, environment

TURNS = 3
WORK = {"training": "a batch of stock Keras fit", "gradient": "a pass, forward and backward to the input"}


def measure(model_path, dataset, data_dir, turns=TURNS):
    """By kind of work, CPU time with oneDNN over that without in the same turn."""
    found = {work: [] for work in WORK}
    for _ in range(turns):
        without, with_it = (_seconds(model_path, dataset, data_dir, switch) for switch in "01")
        for work in WORK:
            found[work].append(with_it[work] / without[work])
    return found


def _seconds(model_path, dataset, data_dir, switch):
    place = [str(model_path.resolve()), dataset, *([os.path.abspath(data_dir)] if data_dir else [])]
    done = subprocess.run(
        [sys.executable, "-m", "evaluation.benchmarks.speed.onednn", *place],
        cwd=ROOT,
        env=environment() | {"TF_ENABLE_ONEDNN_OPTS": switch},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def add_rows(context, found):
    for work in WORK:
        value = statistics.median(found[work])
        context.row("speed.onednn", "time ratio", value, system="oneDNN", of=WORK[work], repeats=len(found[work]))


def main(model_path, dataset, data_dir=None):
    import keras
    import tensorflow as tf

    from evaluation.benchmarks.speed.detector import BATCH, seconds
    from tfdefense import data

    train = data.load(dataset, "train", data_dir=data_dir, limit=BATCH)
    model = keras.models.load_model(model_path, compile=False)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    x, y = tf.constant(train.x), tf.constant(train.y)

    @tf.function(jit_compile=False)
    def one_pass():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=False)))
        return tape.gradient(loss, x)

    found = {"gradient": seconds(one_pass, 20), "training": seconds(lambda: model.train_on_batch(x, y), 20)}
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
