"""Trained networks for protocols: recipes are not imported but run, as a user would, and found in their cache."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment():
    """What makes a process on CPUs fast: large buffers that glibc does not give back at every step, a third of the CPU time,
    and oneDNN, which TensorFlow leaves alone where there is no AVX-512."""
    generous = {"MALLOC_TRIM_THRESHOLD_": 2**32, "MALLOC_MMAP_THRESHOLD_": 2**32, "MALLOC_TOP_PAD_": 2**28}
    defaults = {name: str(value) for name, value in generous.items()} | {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "1"}
    return defaults | dict(os.environ) | {"PYTHONPATH": str(ROOT)}


def _written(name, value):
    """A setting as the command line takes it: what is no single value in JSON."""
    if name == "data_dir":
        return str(Path(value).resolve())
    return json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)


def trained(recipe, *, data_dir=None, **settings):
    """The path of the recipe's `.keras` file; trains, with its progress shown, when it is not in the cache."""
    command = [sys.executable, "-m", "training", recipe]
    for name, value in {"data_dir": data_dir, **settings}.items():
        if value is not None:
            command += [f"--{name.replace('_', '-')}", _written(name, value)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
    if done.returncode:
        shown = " ".join(["python", *command[1:]])
        raise ValueError(f"Expected a trained network from `{shown}`, which ended with exit code {done.returncode}.")
    return Path(done.stdout.splitlines()[-1])


def named(path):
    """A trained network for the settings of a result: its recipe, the key of that, and a digest of its weights.

    The key follows from the recipe alone. Trained a second time, on other cores, the same recipe gives other weights in the last
    digits, and after some epochs another network.
    """
    import keras

    from tfdefense import _cache

    model = keras.models.load_model(path, compile=False)
    return f"{Path(path).parent.name}, weights {_cache.content(*model.get_weights())[:8]}"
