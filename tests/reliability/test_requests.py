"""2,000 hostile inputs on five models and four formats: each is an error or a rejection, and the process goes on."""

import json

import pytest

import tfdefense as td

pytestmark = pytest.mark.torture

MODELS = ("digits_cnn.dnr", "digits_resnet.rce", "mnist_cuda.dustbin", "mnist_cnn.detector", "mnist_cnn.safetynet")

# A process of its own: what is feared is that it ends. It writes what it tries before it tries it.
SERVER = r"""
import json
import numpy as np, tensorflow as tf
name, folder, count, bounds = arguments[0], arguments[1], int(arguments[2]), json.loads(arguments[3])
shape = tuple(json.loads(arguments[4]))

def saved_model():
    serve = tf.saved_model.load(f"{folder}/saved").signatures["serving_default"]
    key = next(iter(serve.structured_input_signature[1]))
    return lambda x: {k: v.numpy() for k, v in serve(**{key: tf.constant(x)}).items()}

def session():
    with tf.Graph().as_default():
        session = tf.compat.v1.Session()
        signature = tf.compat.v1.saved_model.load(session, ["serve"], f"{folder}/saved").signature_def["serving_default"]
    image = next(iter(signature.inputs.values())).name
    outputs = {k: v.name for k, v in signature.outputs.items()}
    return lambda x: session.run(outputs, {image: x})

def onnx():
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options)
    key, names = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {key: x})))

def litert():
    from ai_edge_litert.interpreter import Interpreter
    interpreter = Interpreter(model_path=f"{folder}/model.tflite")
    run, spec = interpreter.get_signature_runner(), interpreter.get_input_details()[0]
    key = next(iter(interpreter.get_signature_list()["serving_default"]["inputs"]))
    return lambda x: run(**{key: x})

def keras_model():
    import tfdefense
    model = tfdefense.load(f"{folder}/model.keras")
    return lambda x: {k: v.numpy() for k, v in model(x).items()}

ask = {"SavedModel": saved_model, "session": session, "onnx": onnx, "litert": litert, "keras": keras_model}[name]()
low, high = bounds
rng = np.random.default_rng(0)
clean = rng.uniform(low, high, (4, *shape)).astype("float32")
expected = ask(clean)["label"]
broken = [np.nan, np.inf, -np.inf, high + 0.1 * (high - low), low - 0.1 * (high - low), 3e38, -3e38]
for number in range(count):
    kind = number % 4
    x, wrong_shape = clean.copy(), kind == 3
    if kind == 0:  # one number of one sample
        x[number % 4].flat[rng.integers(x[0].size)] = broken[rng.integers(len(broken))]
    elif kind == 1:  # a whole sample
        x[number % 4] = broken[rng.integers(len(broken))]
    elif kind == 2:  # some numbers of two samples
        for row in (number % 4, (number + 1) % 4):
            x[row].flat[rng.integers(x[0].size, size=5)] = broken[rng.integers(len(broken))]
    else:
        shapes = [(4,), (), shape, (4, *shape[:-1]), (4, *shape, 1), (4, shape[0] + 1, *shape[1:]), (4, *shape[:-1], shape[-1] + 1)]
        shapes += [(4, shape[0], shape[1] - 1, shape[2]), (1, 4, *shape), (0,), (4, 0, *shape[1:]), (3, 3)]
        x = np.zeros(shapes[rng.integers(len(shapes))], "float32")
    print(json.dumps({"number": number, "kind": kind, "shape": x.shape}), flush=True)
    try:
        found = ask(x)["label"]
    except Exception as error:
        if not wrong_shape:
            print(json.dumps({"fault": f"{type(error).__name__}: {str(error)[:100]}"}), flush=True)
        continue
    if wrong_shape and name == "litert" and x.ndim and x.size == len(x) * int(np.prod(shape)) and len(found) == len(x):
        continue  # it looks at how many numbers a sample has, not at how they lie
    if wrong_shape and name == "keras" and len(found) == len(x) and shape[-1] == 1 and x.shape[1:] in (shape[:-1], (*shape, 1)):
        continue  # Keras adds and drops a last axis of one
    if wrong_shape:
        print(json.dumps({"fault": f"an answer to samples of shape {x.shape}"}), flush=True)
        continue
    changed = ~((x >= low) & (x <= high)).all(axis=(1, 2, 3))
    if not (found[changed] == -1).all():
        print(json.dumps({"fault": "a broken sample passed"}), flush=True)
    if not (found[~changed] == expected[~changed]).all():
        print(json.dumps({"fault": "a neighbour's label changed"}), flush=True)
if not (ask(clean)["label"] == expected).all():
    print(json.dumps({"fault": "another answer afterwards"}), flush=True)
if len(ask(clean[:0])["label"]) or ask(clean[:0])["scores"].shape[0]:
    print(json.dumps({"fault": "an empty batch got an answer"}), flush=True)
print(json.dumps({"done": True}), flush=True)
"""


@pytest.mark.parametrize("format", ["keras", "SavedModel", "session", "onnx", "litert"])
def test_hostile_requests(format, times, tally, children, tmp_path):
    models = MODELS[: times(short=1, full=len(MODELS))]
    # Both ways into a SavedModel share its number: 100 a model and format.
    count = 50 if format in ("SavedModel", "session") else 100
    faults = []
    for name in models:
        folder = tmp_path / name
        model = td.zoo.load(name)
        suffix = {"onnx": "model.onnx", "litert": "model.tflite", "keras": "model.keras"}.get(format, "saved")
        td.export.export(model, folder / suffix)
        bounds, shape = td.contract.bounds_of(model), model.inputs[0].shape[1:]
        arguments = [format, str(folder), str(count), json.dumps(bounds), json.dumps(shape)]
        log = folder / "log"
        ended = children.ended(children.start(SERVER, *arguments, log=log))
        lines = log.read_text().splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        faults += [f"{name}: {line['fault']}" for line in said if "fault" in line]
        if not said or "done" not in said[-1]:
            faults.append(f"{name}: the process ended ({ended}) at {said[-1] if said else lines[-3:]}")
    tally(f"hostile inputs, {format}", count * len(models), faults)
