"""For `speed_defenses`: what the training of each defense costs beside stock Keras `fit` on the same network.

All take turns, one short epoch a turn after one that compiles, on the same samples, each turn in another order: a machine
that is shared changes its pace by a tenth from one second to the next, and many neighbours in time see through that. The
plain row is stock `fit` once more: how far it is from 1 is how far the measurement can be trusted.
"""

import statistics
import time

from evaluation.benchmarks.speed.detector import BATCH, EPSILON, STEPS, WATCHED

BATCHES, TURNS = 10, 41
DETECTOR_EVERY = 8  # turns: its adversary makes it as slow as that
KINDS = ("plain", "RCE", "dustbin", "dynamic detector")


def _stock(model, loss):
    model.compile("adam", loss, jit_compile=False)
    return model


def _models(path, dataset):
    """For each kind a compiled model, and whether its samples are classes or classes and a dustbin."""
    import keras

    import tfdefense as td

    def network():
        return keras.models.load_model(path, compile=False)

    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = network()
    reverse = keras.Model(model.inputs[0], td.layers.ReverseLogits()(model.outputs[0]))
    layer, width = WATCHED[dataset]
    defended = td.AdversaryDetector(layer, width=width, depth=4, seed=0, threshold=0.0).attach(network())
    detector = td.DetectorTraining(defended, td.attacks.DynamicAdversary(EPSILON, steps=STEPS, schedule="fixed"))
    detector.compile()
    return {
        "stock": _stock(network(), cross_entropy),
        "plain": _stock(network(), cross_entropy),
        "RCE": _stock(reverse, td.losses.ReverseCrossEntropy(from_logits=True)),
        "dustbin": _stock(td.graft_dustbin(network()), cross_entropy),
        "dynamic detector": detector,
    }


def measure(model_path, dataset, data_dir, batches, turns):
    """By kind and clock, seconds of stock `fit` over its own in the same turn; the dustbin's samples are of one class more."""
    from tfdefense import data

    train = data.load(dataset, "train", data_dir=data_dir, limit=batches * BATCH)
    y = {"dustbin": train.y.copy()}
    y["dustbin"][::10] = train.y.max() + 1
    models = _models(model_path, dataset)
    found = {kind: {"cpu": [], "wall": []} for kind in KINDS}
    for turn in range(turns + 1):
        kinds = [kind for kind in models if kind != "dynamic detector" or turn % DETECTOR_EVERY < 2]
        seconds = {}
        for kind in kinds[turn % len(kinds) :] + kinds[: turn % len(kinds)]:
            started = time.process_time(), time.perf_counter()
            models[kind].fit(train.x, y.get(kind, train.y), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
            seconds[kind] = {"cpu": time.process_time() - started[0], "wall": time.perf_counter() - started[1]}
        stock = seconds.pop("stock")
        for kind in seconds if turn else ():
            for clock, own in seconds[kind].items():
                found[kind][clock].append(stock[clock] / own)
    return found | {"samples": len(train.x)}


def add_rows(context, found):
    """The median over turns of the ratio of times in the same turn."""
    for kind in KINDS:
        for clock, ratios in found[kind].items():
            about = {"system": kind, "clock": clock, "repeats": len(ratios), "n": found["samples"]}
            context.row("speed.fit", "throughput ratio", statistics.median(ratios), **about)
