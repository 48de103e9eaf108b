"""The same weights wherever a run is computed, and whatever becomes of it on the way."""

import io
import json
import os
import random
import signal
import socket
import time
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from training.strategy import choose
from training.train import train

TWO_DEVICES = """
import shutil, tempfile
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import tfdefense as td
from training.train import train

devices = set()
look = td.view.View.forward

def seen(view, x):
    devices.add(x.device[-5:])
    return look(view, x)

td.view.View.forward = seen

def apart(a, b):
    return 0.0 if np.array_equal(a, b) else float(abs(a - b).max())  # thresholds that are still to be set are infinite

def compare(name, weights):
    print(name, max(apart(a, b) for a, b in zip(*weights)), sorted(device for device in devices if device))
    devices.clear()

RECIPES = {
    "rce": ("digits", {"loss": "reverse_cross_entropy", "dustbin": [{"set": "letters8", "limit": 64}]}),
    "detector": ("digits_detector", {
        "attack": {"epsilon": 0.5, "norm": "l2", "steps": 2},  # in linf a sign may turn with the rounding of a batch
        "watched": {"recipe": "digits", "layer": "conv_1", "width": 4, "settings": {"epochs": 1, "train_samples": 192}},
    }),
}
with tempfile.TemporaryDirectory() as folder:
    for name, (recipe, settings) in RECIPES.items():
        found = []
        for where in ("one", "mirrored"):
            if (name, where) == ("detector", "mirrored"):  # the network that it watches is trained on one device in any case
                detectors = shutil.ignore_patterns("digits_*")
                shutil.copytree(f"{folder}/one", f"{folder}/mirrored", dirs_exist_ok=True, ignore=detectors)
            options = {"epochs": 1, "train_samples": 192, "optimizer": "SGD", "learning_rate": 0.1}
            path = train(recipe, cache=f"{folder}/{where}", strategy=where, verbose=0, **options, **settings)
            found.append(keras.models.load_model(path / "model.keras", compile=False).get_weights())
        compare(name, found)
"""


@pytest.mark.long
def test_two_devices_give_the_weights_of_one(children, tmp_path):
    code = children.ended(children.start(TWO_DEVICES, log=tmp_path / "log"))
    told = (tmp_path / "log").read_text()
    assert code == 0, told[-3000:]
    lines = {line.split()[0]: line.split(maxsplit=2) for line in told.splitlines() if line.strip()}
    for name in ("detector", "rce"):
        assert float(lines[name][1]) < 1e-5, lines[name]
    assert lines["detector"][2] == "['CPU:0', 'CPU:1']", "each replica attacks its own samples"


def weights(path):
    return keras.models.load_model(path / "model.keras", compile=False).get_weights()


SMALL = {"train_samples": 128, "model_options": {"dropout": 0.3}}

WORKER = """
import os, signal
import keras
from training.train import train

class Die(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGKILL)

train("digits", cache=arguments[0], strategy="multiworker", callbacks=[Die()] if arguments[1] == "die" else [],
      epochs=3, train_samples=128, verbose=0)
"""


@pytest.mark.long
def test_killed_worker_that_is_started_again_ends_where_an_unbroken_run_does(children, tmp_path):
    def start(*how):
        ports = [socket.create_server(("localhost", 0)) for _ in how]
        cluster = {"worker": [f"localhost:{port.getsockname()[1]}" for port in ports]}
        for port in ports:
            port.close()
        started = []
        for index, each in enumerate(how):
            config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            log = tmp_path / f"worker-{index}.txt"
            started.append(children.start(WORKER, tmp_path / "two", each, log=log, TF_CONFIG=config))
        return started

    chief, other = start("live", "die")
    assert children.ended(other) == -signal.SIGKILL
    os.kill(chief, signal.SIGKILL)
    children.ended(chief)
    state = next((tmp_path / "two").glob("*.partial/epoch-*.weights.h5"))
    assert state.name == "epoch-000001.weights.h5", "the second epoch was not finished"
    for process in start("live", "live"):
        assert children.ended(process) == 0, (tmp_path / "worker-0.txt").read_text()[-2000:]
    assert "Resuming digits" in (tmp_path / "worker-0.txt").read_text()
    one = train("digits", cache=tmp_path / "one", strategy="one", epochs=3, train_samples=128, verbose=0)
    two = next((tmp_path / "two").glob("digits-????????????"))
    for expected, received in zip(weights(one), weights(two), strict=True):
        np.testing.assert_allclose(received, expected, atol=1e-5)
    assert len((two / "history.csv").read_text().splitlines()) == 4


TRAINING = """
import keras
from training.train import train

class Tell(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        print("finished", epoch + 1, flush=True)

train("digits", cache=arguments[0], epochs=int(arguments[1]), train_samples=128, model_options={"dropout": 0.3}, verbose=0,
      callbacks=[Tell()])
"""


@pytest.mark.long
def test_kills_lose_no_finished_epoch_and_spoil_no_state(children, tmp_path):
    epochs, rng, reached = 400, random.Random(0), 0
    os.mkfifo(tmp_path / "log")
    for _ in range(3):
        child = children.start(TRAINING, tmp_path / "killed", epochs, log=tmp_path / "log")
        with open(tmp_path / "log") as log:
            lines = (int(line.split()[1]) for line in iter(log.readline, "") if line.startswith("finished"))
            told = []
            for _ in range(rng.randint(2, 5)):
                began = time.perf_counter()
                told.append(next(lines))
                took = time.perf_counter() - began
            time.sleep(rng.uniform(0, took))
            os.kill(child, signal.SIGKILL)
            told += lines
        children.ended(child)
        assert told == list(range(reached + 1, reached + 1 + len(told))), "it goes on where the last one ended"
        kept = sorted((tmp_path / "killed").glob("*.partial/epoch-*.weights.h5"))
        reached = int(kept[-1].name[6:12])
        assert reached in (told[-1], told[-1] + 1), "no finished epoch is lost"
    settings = {"epochs": reached + 1, "verbose": 0, **SMALL}
    # The last state is loaded here, and must be that of a run that nothing ever stopped.
    partial = next((tmp_path / "killed").glob("*.partial"))
    from training import recipe as recipes

    key = recipes.find("digits").changed(epochs=reached + 1, **SMALL).key()
    partial.rename(partial.with_name(f"digits-{key}.partial"))
    resumed = train("digits", cache=tmp_path / "killed", **settings)
    whole = train("digits", cache=tmp_path / "whole", **settings)
    for expected, received in zip(weights(whole), weights(resumed), strict=True):
        np.testing.assert_array_equal(received, expected)
    assert (resumed / "history.csv").read_text() == (whole / "history.csv").read_text()


def test_strategy_is_told_and_what_it_needs_is_named(monkeypatch):
    report, devices = io.StringIO(), types.SimpleNamespace(name="GPU:0")
    for gpus in (0, 3):
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind, gpus=gpus: [devices] * gpus)
        assert choose("auto", report, batch_size=128).replicas == 1
    told = report.getvalue().splitlines()
    assert told[0] == "Strategy: one device, CPU"
    assert told[1] == "Strategy: one device, GPU: batches of 128 do not divide by the 3 that there are"
    with pytest.raises(ValueError, match="`strategy` must be one of auto, one, .*Received 'many'"):
        choose("many", report)
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="needs TF_CONFIG, .*Received None. See training/WORKERS.md"):
        choose("multiworker", report)
