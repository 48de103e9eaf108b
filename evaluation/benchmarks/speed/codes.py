"""For `speed_defenses`: what a decision costs beside that of the classifier: 10,000 codes to be matched, a search around it."""

WATCHED = {"mnist": "dense_2", "digits": "dense_1"}
STORED, BATCH = 10_000, 256


def measure(model_path, dataset, data_dir, stored=STORED, repeats=10):
    """CPU seconds of a compiled prediction by the classifier and by it with codes of one layer matched, in turns."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdefense as td
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
    return _in_turns({"classifier": model, "defended": defended}, x, repeats) | {"stored": stored, "samples": len(x)}


def _in_turns(models, x, repeats):
    """The median of CPU seconds of a compiled prediction by each model."""
    import keras
    import tensorflow as tf

    from evaluation.benchmarks.speed.detector import seconds

    runs = {}
    for name, one in models.items():
        predict = tf.function(lambda x, one=one: one(x, training=False))
        runs[name] = lambda predict=predict: keras.tree.map_structure(lambda tensor: tensor.numpy(), predict(x))
    found = {name: [] for name in runs}
    for _ in range(3):
        for name, run in runs.items():
            found[name].append(seconds(run, repeats))
    return {name: sorted(times)[1] for name, times in found.items()}


def measure_around(model_path, dataset, data_dir, repeats=3):
    """CPU seconds of a compiled prediction by the classifier, and by it with each search around the sample, in turns."""
    import keras
    import tensorflow as tf

    import tfdefense as td
    from tfdefense import data

    model = keras.models.load_model(model_path, compile=False)
    # What radius and threshold are does not change the cost.
    defenses = {
        "CPR, 5 steps": td.ConsistencyRejection(0.5, steps=5, threshold=0.0),
        "CPR, 10 steps": td.ConsistencyRejection(0.5, threshold=0.0),
        "first-order radius": td.RadiusRejection(threshold=0.0),
        "first-order radius, 3 classes": td.RadiusRejection(top=3, threshold=0.0),
    }
    x = tf.constant(data.load(dataset, "train", data_dir=data_dir, limit=BATCH).x)
    models = {"classifier": model} | {name: defense.attach(model) for name, defense in defenses.items()}
    return {"seconds": _in_turns(models, x, repeats), "samples": len(x)}


def add_rows_around(context, found):
    """A row for each: the time over that of the classifier in the same run."""
    classifier = found["seconds"]["classifier"]
    for name, seconds in found["seconds"].items():
        if name != "classifier":
            context.row("speed.predict", "time ratio", seconds / classifier, system=name, n=found["samples"])


def add_row(context, found):
    ratio = found["defended"] / found["classifier"]
    context.row("speed.predict", "time ratio", ratio, system="SafetyNet", codes=found["stored"], n=found["samples"])
