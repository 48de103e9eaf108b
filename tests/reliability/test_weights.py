"""NaN and infinity in one weight of every model of the zoo: no sample passes, in any format, with oneDNN and without."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.torture

# A process of its own: oneDNN is switched on or off when TensorFlow starts.
SCRIPT = r"""
import json, sys, tempfile
import numpy as np, tensorflow as tf
import tfdefense as td

value, names, cases = float(sys.argv[1]), json.loads(sys.argv[2]), {}

def tell(what, failed):
    tried, failures = cases.setdefault(what, [0, []])
    cases[what] = [tried + 1, failures + ([failed] if failed else [])]

def spoiled(variable, where):
    whole = np.array(variable)
    broken = whole.copy()
    broken.flat[where % whole.size] = value
    return whole, broken

for name in names:
    model = td.zoo.load(name)
    x = td.zoo.probe(model.inputs[0].shape[1:], td.contract.bounds_of(model))
    graph = tf.function(model)
    with tempfile.TemporaryDirectory() as folder:
        served = tf.saved_model.load(str(td.export.export(model, f"{folder}/saved")))
        serve = served.signatures["serving_default"]
        ways = {"eager": (model, model), "graph": (graph, model), "SavedModel": (serve, served)}
        for way, (ask, owner) in ways.items():
            for place, variable in enumerate(owner.variables):
                if not tf.as_dtype(variable.dtype).is_floating:
                    continue
                whole, broken = spoiled(variable, 7919 * (place + 1))
                variable.assign(broken)
                outputs = ask(tf.constant(x))
                passed = (outputs["label"].numpy() != -1).any() or not (outputs["suspicion"].numpy() == np.inf).all()
                tell(way, f"{name}: {variable.name}" if passed else None)
                if way == "eager":  # what freezes its weights is not written at all, and a file is not loaded
                    for format in ("m.onnx", "m.tflite", "m.keras"):
                        try:
                            td.export.export(model, f"{folder}/{format}")
                            tell(format[1:], f"{name}: {variable.name} was written")
                        except ValueError:
                            tell(format[1:], None)
                variable.assign(whole)
print(json.dumps(cases))
"""


@pytest.mark.parametrize("onednn", ["1", "0"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_one_broken_weight(value, onednn, times, tally):
    from tfdefense import zoo

    names = zoo.list()[: times(short=0, full=100)]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, value, json.dumps(names)],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": onednn, "PYTHONPATH": "."},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for way, (tried, failures) in json.loads(done.stdout.splitlines()[-1]).items():
        tally(f"{value} in one weight, oneDNN {'on' if onednn == '1' else 'off'}, {way}", tried, failures)
