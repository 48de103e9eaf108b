"""For `evaluation/speed_defenses.py`: what the training of each defense costs beside stock Keras `fit` on the same network.

All take turns, one epoch a turn after one that compiles, on the same samples. The plain row is
stock `fit` once more: how far it is from 1 is how far the measurement can be trusted.
"""

import statistics
import time

from evaluation.speed_detector import BATCH, EPSILON, STEPS, WATCHED

TURNS = 5
LEAST = 0.97
KINDS = {
    "plain": "stock Keras fit again",
    "RCE": None,
    "dustbin": None,
    "dynamic detector": f"its adversary makes {STEPS} steps",
}
LIMITED = ("RCE", "dustbin")


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
    defended = td.AdversaryDetector(layer, width=width, seed=0, threshold=0.0).attach(network())
    detector = td.DetectorTraining(defended, td.attacks.DynamicAdversary(EPSILON, steps=STEPS))
    detector.compile()
    return {
        "stock": _stock(network(), cross_entropy),
        "plain": _stock(network(), cross_entropy),
        "RCE": _stock(reverse, td.losses.ReverseCrossEntropy(from_logits=True)),
        "dustbin": _stock(td.graft_dustbin(network()), cross_entropy),
        "dynamic detector": detector,
    }


def measure(model_path, dataset, data_dir, batches, turns=TURNS):
    """CPU and wall seconds of one epoch, a list of turns for each kind; the dustbin's samples are of one class more."""
    from tfdefense import data

    train = data.load(dataset, "train", data_dir=data_dir, limit=batches * BATCH)
    y = {"dustbin": train.y.copy()}
    y["dustbin"][::10] = train.y.max() + 1
    models = _models(model_path, dataset)
    found = {kind: {"cpu": [], "wall": []} for kind in models}
    for turn in range(turns + 1):
        for kind, model in models.items():
            started = time.process_time(), time.perf_counter()
            model.fit(train.x, y.get(kind, train.y), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
            if turn:
                found[kind]["cpu"].append(time.process_time() - started[0])
                found[kind]["wall"].append(time.perf_counter() - started[1])
    return found | {"samples": len(train.x)}


def add_rows(context, found, full):
    """Throughput beside stock `fit`: the median over turns of the ratio of neighbours in time."""
    for kind, remark in KINDS.items():
        ratio = {
            clock: statistics.median(s / own for s, own in zip(found["stock"][clock], found[kind][clock], strict=True))
            for clock in ("cpu", "wall")
        }
        note = [remark] if remark else []
        if kind in LIMITED and full:
            note.append(f"limit: at least {LEAST:g} of stock fit; {'met' if ratio['cpu'] >= LEAST else 'NOT met'}")
        numbers = {"throughput": ratio["cpu"], "wall throughput": ratio["wall"], "repeats": len(found[kind]["cpu"])}
        context.row(f"fit, {kind}", "tfdefense", None, samples=found["samples"], note="; ".join(note), **numbers)
