"""What a decision costs, beside that of the bare network in the same runtime."""

import statistics
import tempfile
from pathlib import Path

WATCHED = {"mnist": "conv_2", "digits": "conv_1"}
BATCHES, SCORED = (1, 128), 4096
BARE, DENSITY, BRANCH, SCORE = "bare network", "K-density", "detector branch, default width", "energy"
PHOTOS = "MobileNetV2"


def defended(model, layer, x, y):
    """By name, the network with each defense; the one on what all decide by last."""
    import tfdefense as td

    # What thresholds are does not change the cost.
    density = td.DensityDefense(threshold=0.0, max_points=len(x)).attach(model)
    td.adapt(density, x, y, max_rejected=None)
    branch = td.AdversaryDetector(layer, threshold=0.0, seed=0).attach(model)
    return {DENSITY: density, BRANCH: branch, SCORE: td.ThresholdDefense("energy", threshold=0.0).attach(model)}


def measure(model_path, dataset, data_dir, stored, turns):
    """A list of results: the fields of a row and its value."""
    import keras

    from tfdefense import data

    model = keras.models.load_model(model_path, compile=False)
    train = data.load(dataset, "train", data_dir=data_dir, limit=stored)
    made = defended(model, WATCHED[dataset], train.x, train.y)
    found = []
    for runtime, start in {"TensorFlow": _compiled, "ONNX": _onnx, "LiteRT": _litert}.items():
        models = {BARE: model, **(made if runtime == "TensorFlow" else {DENSITY: made[DENSITY]})}
        with tempfile.TemporaryDirectory() as folder:
            starts = {name: start(one, Path(folder) / f"{number}") for number, (name, one) in enumerate(models.items())}
            for batch in BATCHES:
                runs = {name: one(train.x[:batch]) for name, one in starts.items()}
                found += _ratios(runs, turns, max(2, 64 // batch), runtime=runtime, batch=batch, stored=len(train.x))
    return found + _scoring(model, made[SCORE], train.x[: min(SCORED, len(train.x))], turns)


def measure_photos(turns, batch=32, side=160, stored=1000):
    """The same of a network of photos, whose weights do not change the cost."""
    import keras
    import numpy as np

    model = keras.applications.MobileNetV2((side, side, 3), weights=None, classes=100, classifier_activation=None)
    x = np.random.default_rng(0).random((stored, side, side, 3), "float32")
    made = defended(model, "block_6_expand_relu", x, np.arange(stored) % 100)
    starts = {name: _compiled(one, None)(x[:batch]) for name, one in {BARE: model, **made}.items()}
    found = _ratios(starts, turns, 2, runtime="TensorFlow", batch=batch, stored=stored)
    return [fields | {"base": PHOTOS} for fields in found]


def _ratios(runs, turns, repeats, **about):
    """The time of each over that of the bare network in the same turn: the median over turns."""
    from evaluation.benchmarks.speed.detector import seconds

    times = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            times[name].append(seconds(run, repeats))
    bare = times.pop(BARE)
    ratios = {name: statistics.median(own / one for own, one in zip(every, bare, strict=True)) for name, every in times.items()}
    return [{"system": name, "metric": "time ratio", "value": ratio, **about} for name, ratio in ratios.items()]


def _scoring(model, defended, x, turns):
    """The time of `td.predict` on many samples over that of the bare network, and a decision on one image by `decide`."""
    import tfdefense as td
    from evaluation.benchmarks.speed.detector import seconds

    bare = _compiled(model, None)
    parts = [bare(x[i : i + 256]) for i in range(0, len(x), 256)]
    ratios = []
    for _ in range(turns):
        alone = seconds(lambda: [part() for part in parts], 1)
        ratios.append(seconds(lambda: td.predict(defended, x, batch_size=256), 1) / alone)
    one = min(seconds(lambda: defended.decide(x[:1]), 20) for _ in range(turns))
    return [
        {"system": SCORE, "metric": "time ratio", "value": statistics.median(ratios), "of": "td.predict", "n": len(x)},
        {"system": SCORE, "metric": "CPU seconds", "value": one, "of": "decide", "n": 1},
    ]


def _compiled(model, path):
    import keras
    import tensorflow as tf

    run = tf.function(lambda x: model(x, training=False), autograph=False)

    def of(x):
        x = tf.constant(x)
        return lambda: keras.tree.map_structure(lambda tensor: tensor.numpy(), run(x))

    return of


def _onnx(model, path):
    import onnxruntime

    import tfdefense as td

    td.export.onnx(model, path := f"{path}.onnx")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: lambda: session.run(None, {name: x})


def _litert(model, path):
    from ai_edge_litert.interpreter import Interpreter

    import tfdefense as td

    td.export.litert(model, path := f"{path}.tflite")

    def of(x):
        interpreter = Interpreter(path)
        place = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(place, x.shape)
        interpreter.allocate_tensors()
        given = [output["index"] for output in interpreter.get_output_details()]

        def run():
            interpreter.set_tensor(place, x)
            interpreter.invoke()
            return [interpreter.get_tensor(one) for one in given]

        return run

    return of


def add_rows(context, found):
    for fields in found:
        context.row("service.decisions", fields["metric"], fields["value"], **{k: v for k, v in fields.items() if k not in _OWN})


_OWN = ("metric", "value")
