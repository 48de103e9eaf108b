"""For `speed_defenses`: what a decision costs beside that of the classifier, with 10,000 codes to be matched."""

WATCHED = {"mnist": "dense_2", "digits": "dense_1"}
STORED, BATCH = 10_000, 256


def measure(model_path, dataset, data_dir, stored=STORED, repeats=10):
    """CPU seconds of a compiled prediction by the classifier and by it with codes of one layer matched, in turns."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdefense as td
    from evaluation.benchmarks.speed.detector import seconds
    from tfdefense import data

    model = keras.models.load_model(model_path, compile=False)
    tap = model.get_layer(WATCHED[dataset]).output
    machine = td.layers.DetectorSVM(vectors=stored)
    codes = td.layers.QuantizedReLU(thresholds=[0.5])(tap)
    suspicion = td.layers.Threshold(0.0)(machine(codes))
    defended = td.contract.defend(model.inputs[0], model.outputs[0], suspicion)
    rng = np.random.default_rng(0)
    # What they are does not change the cost; where they are far from all codes a kernel of 0 might.
    machine.support_vectors.assign(rng.integers(0, 2, machine.support_vectors.shape).astype("float32"))
    machine.coefficients.assign(rng.normal(size=machine.coefficients.shape))
    machine.log_gamma.assign(-np.log(machine.features))
    machine.intercepts.assign(np.zeros(2))
    machine.mark_adapted()
    x = tf.constant(data.load(dataset, "train", data_dir=data_dir, limit=BATCH).x)
    runs = {}
    for name, one in (("classifier", model), ("defended", defended)):
        predict = tf.function(lambda x, one=one: one(x, training=False))
        runs[name] = lambda predict=predict: keras.tree.map_structure(lambda tensor: tensor.numpy(), predict(x))
    found = {name: [] for name in runs}
    for _ in range(3):
        for name, run in runs.items():
            found[name].append(seconds(run, repeats))
    return {name: sorted(times)[1] for name, times in found.items()} | {"stored": stored, "samples": len(x)}


def add_row(context, found):
    ratio = found["defended"] / found["classifier"]
    context.row("speed.predict", "time ratio", ratio, system="SafetyNet", codes=found["stored"], n=found["samples"])
