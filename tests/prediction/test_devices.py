"""Several devices share a batch, and say what one says."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfdefense as td

ON_THREE = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
import tfdefense as td
devices = ["CPU:0", "CPU:1", "CPU:2"]
x = td.data.load("digits", "test", limit=100).x.copy()
x[3, 0, 0], x[99, 0, 0] = np.nan, 7
used = set()
results = tf.distribute.MirroredStrategy.experimental_local_results

def seen(strategy, value):
    found = results(strategy, value)
    used.update(one.device[-5:] for one in found)
    return found

tf.distribute.MirroredStrategy.experimental_local_results = seen
defended = td.load(sys.argv[1])
plain = td.contract.base_model(defended)
probable = keras.Sequential([plain, keras.layers.Softmax()])
for name, model in (("defended", defended), ("plain", plain), ("probable", probable)):
    one = td.predict(model, x)
    used.clear()
    # The last batch has fewer samples than there are devices.
    several = td.predict(model, x, devices=devices, batch_size=7)
    assert used == set(devices), (name, used)
    for field in ("label", "reason", "detector"):
        np.testing.assert_array_equal(getattr(one, field), getattr(several, field), err_msg=f"{name} {field}")
    np.testing.assert_allclose(several.confidence, one.confidence, rtol=1e-4, err_msg=name)
    if one.suspicion is not None:
        np.testing.assert_allclose(several.suspicion, one.suspicion, atol=1e-4)
    print(name, len(several), int((several.label < 0).sum()))
y = td.data.load("digits", "test", limit=100).y
for name, model, samples in (("defended", defended, x), ("probable", probable, td.data.load("digits", "test", limit=100).x)):
    one = td.evaluate(model, samples, y)
    used.clear()
    several = td.evaluate(model, samples, y, devices=devices, batch_size=8)
    assert used == set(devices), (name, used)
    for field in ("label", "guess", "right"):
        np.testing.assert_array_equal(getattr(one, field), getattr(several, field), err_msg=f"{name} {field}")
assert td.prediction.devices.chosen(td.view.View.of(defended), None) == (), "CPUs are not shared unasked"
"""


@pytest.mark.long
def test_three_devices_say_what_one_says(defended, tmp_path):
    defended.save(tmp_path / "defended.keras")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", ON_THREE, str(tmp_path / "defended.keras")],
        capture_output=True,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [line.split() for line in done.stdout.splitlines()]
    assert [line[:2] for line in found] == [["defended", "100"], ["plain", "100"], ["probable", "100"]]
    assert int(found[0][2]) >= 2


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("GPU:0", "must be a list of names"),
        ([], "must be a list of names"),
        (["CPU:0", "GPU:7"], "must name devices of this machine: CPU:0.* Received: GPU:7"),
        (["CPU:0", "CPU:0"], "name each device once"),
    ],
)
def test_devices_that_are_not_there_are_named(devices, message, defended, held_out):
    with pytest.raises(ValueError, match=message):
        td.predict(defended, held_out.x[:2], devices=devices)
    with pytest.raises(ValueError, match=message):
        td.evaluate(defended, held_out.x[:2], held_out.y[:2], devices=devices)


def test_only_a_keras_model_is_copied(defended, held_out):
    with pytest.raises(ValueError, match="Only a Keras model can be copied to devices. Received a function"):
        td.predict(lambda x: defended(x)["scores"], held_out.x[:2], devices=["CPU:0"])


def test_one_device_by_name_is_that_device(defended, held_out):
    found = td.predict(defended, held_out.x[:5], devices=["CPU:0"], batch_size=2)
    assert (found.label == td.predict(defended, held_out.x[:5]).label).all()
