"""Networks are trained on GPUs through JAX too: layers give there what they give here."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tfdefense.layers.scores import kernel_density

# Each layer as it is after `adapt`, where it has one, on the same samples; also compiled, as `fit` does it.
CODE = """
import json
import keras, numpy as np
from keras import ops
from tfdefense import layers, losses
from tfdefense.layers.scores import kernel_density

kernel_density.BLOCK = 64
rng = np.random.default_rng(0)
labels = rng.integers(0, 4, 300)
x = np.abs(rng.normal(size=(300, 6)) + labels[:, None]).astype("float32")
new, scores = x[:20] + 0.3, rng.normal(size=(20, 4)).astype("float32")


def adapted(layer, *data):
    layer.adapt(*data)
    return layer


density = adapted(layers.KernelDensity(1.0, max_points=400), x, labels)
svms = adapted(layers.RBFSVM(4), x, labels)
codes = layers.QuantizedReLU(levels=4)
codes.adapt(x, labels)
known = np.asarray(codes(x))
guard = adapted(layers.DetectorSVM(), known, (labels > 1).astype("int32"))
taken_for = np.eye(2, dtype="float32")[rng.integers(0, 2, 300)]
matched = adapted(layers.ClasswiseDetectorSVM(2), [known, taken_for], (labels > 1).astype("int32"))
kernel = rng.normal(size=(6, 4)).astype("float32")


def post_hoc(name, kind):
    # After `adapt`, where it has one, of `new` and of what a Dense layer makes of it.
    layer = kind(**({"k": 5, "components": 3, "storage": "int8"} if name in ("knn", "nnguide") else {}))
    given = [{"features": rows, "scores": rows @ kernel} for rows in (x, new)]
    train, fresh = ([part[each] for each in layer.takes] for part in given)
    if hasattr(layer, "adapt"):
        head = {"head": (kernel, np.zeros(4))} if name in ("vim", "fdbd") else {}
        layer.adapt(train if len(train) > 1 else train[0], labels, **head)
    return layer(*fresh)


tried = {
    "KernelDensity": (lambda: density(new, scores)),
    "RBFSVM": (lambda: svms(new)),
    "QuantizedReLU": (lambda: codes(new)),
    "DetectorSVM": (lambda: guard(codes(new))),
    "ClasswiseDetectorSVM": (lambda: matched([codes(new), scores[:, :2]])),
    "DetectorBranch": (lambda: layers.DetectorBranch(width=4, seed=1)(ops.zeros((2, 12, 12, 3)))),
    "ReverseLogits": (lambda: layers.ReverseLogits()(scores)),
    "BinaryScores": (lambda: layers.BinaryScores()(scores[:, :1])),
    "Dustbin": (lambda: layers.Dustbin()(ops.concatenate([scores, ops.ones((len(scores), 1))], -1))[1]),
    **{name: (lambda name=name, kind=kind: post_hoc(name, kind)) for name, kind in layers.scores.POST_HOC.items()},
    "energy, temperature": (lambda: layers.scores.Energy(0.5)(scores)),
    "Reject": (lambda: layers.Reject()(new, scores, layers.Threshold(0.0)(layers.Confidence()(scores)))["label"]),
    "Reject, NaN": (lambda: layers.Reject()(new * np.nan, scores, scores[:, 0])["label"]),
    "ReverseCrossEntropy": (lambda: losses.ReverseCrossEntropy()(labels[:20], scores)),
    "ReverseCrossEntropy, sure": (lambda: losses.ReverseCrossEntropy(from_logits=False)(labels[:20], ops.softmax(9 * scores))),
    "Reject, unbounded": (lambda: layers.Reject(None)(new * 99, scores, -ops.ones(len(scores)))["label"]),
    "OneVsAllHinge": (lambda: losses.OneVsAllHinge()(labels[:20], scores)),
}
found = {name: np.asarray(ops.convert_to_numpy(make())).ravel().tolist() for name, make in tried.items()}
inputs = [keras.Input((6,)), keras.Input((4,))]
classifier = keras.Sequential([inputs[0], keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(4)])
for layer, shape in zip(classifier.layers, ((6, 4), (4, 4))):
    layer.set_weights([0.2 * np.sin(np.arange(shape[0] * 4)).reshape(shape), np.arange(4) / 9])
for around in (layers.Consistency(0.5, steps=3), layers.Consistency(0.1, norm="linf"), layers.FirstOrderRadius()):
    score = keras.Model(inputs[0], around([inputs[0], classifier(inputs[0])]))
    found[f"{type(around).__name__}, {around.norm}"] = np.asarray(ops.convert_to_numpy(score(new))).tolist()
compiled = keras.Model(inputs, density(*inputs))
compiled.compile(jit_compile=False)
found["compiled"] = compiled.predict([new, scores], verbose=0).tolist()
print(json.dumps([keras.backend.backend(), found]))
"""


@pytest.mark.long
def test_layers_give_the_same_on_jax(monkeypatch):
    pytest.importorskip("jax", reason="JAX is not installed: `pip install tfdefense[jax]`")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    monkeypatch.setattr(kernel_density, "BLOCK", kernel_density.BLOCK)  # the code sets another
    told = []
    exec(CODE, {"print": told.append})
    (backend, there), (_, here) = json.loads(done.stdout.splitlines()[-1]), json.loads(told[0])
    assert backend == "jax" and set(here["Reject, NaN"]) == {-1}
    for name, values in here.items():
        np.testing.assert_allclose(there[name], values, rtol=1e-3, atol=1e-4, err_msg=name)
