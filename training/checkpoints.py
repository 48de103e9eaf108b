"""What a run keeps while it goes on: each file appears whole or not at all, so that no kill can spoil one."""

import csv
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from tfdefense._files import write_file, write_text


class Checkpoints(keras.callbacks.Callback):
    """The state after each epoch, its history, and the best state so far; a run begins where the last one ended.

    The best epoch is that of the smallest training loss: validation shows the test samples, and nothing is chosen by those.
    """

    def __init__(self, work, writes=True):
        super().__init__()
        self.work, self.writes, self.rows, self.diverged = work, writes, [], None

    @property
    def best(self):
        """Number of the best epoch."""
        return int(min(self.rows, key=lambda row: float(row["loss"]))["epoch"])

    def on_train_begin(self, logs=None):
        states = sorted(self.work.glob("epoch-*.weights.h5"))
        if not states:
            return
        done = int(states[-1].name.split("-")[1].split(".")[0])
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self.model.load_weights(states[-1])
        self.model._initial_epoch = done
        with open(self.work / "history.csv", newline="") as file:
            self.rows = [row for row in csv.DictReader(file) if int(row["epoch"]) < done]
        self._keep_best(states[-1], done - 1)

    def on_epoch_end(self, epoch, logs=None):
        # The loss may stay finite: oneDNN's ReLU makes 0 of what is no number.
        weights = (np.asarray(weight) for weight in self.model.trainable_weights)
        if not (np.isfinite((logs or {}).get("loss", 0.0)) and all(np.isfinite(weight).all() for weight in weights)):
            # The state before is the last good one.
            self.diverged = epoch + 1
            return
        self.rows.append({"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}})
        if not self.writes:
            return
        # The history first: it may tell of an epoch that has to be repeated, but no state is without its history.
        write_file(self.work / "history.csv", self._write_history)
        state = self.work / f"epoch-{epoch + 1:06d}.weights.h5"
        older = list(self.work.glob("epoch-*.weights.h5"))
        write_file(state, self.model.save_weights)
        self._keep_best(state, epoch)
        for path in older:
            path.unlink()

    def _write_history(self, new):
        with open(new, "w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)

    def _keep_best(self, state, epoch):
        if self.writes and self.best == epoch:
            write_file(self.work / "best.weights.h5", lambda new: shutil.copyfile(state, new))


class Board(keras.callbacks.Callback):
    """Numbers of each epoch for TensorBoard, which need not be installed here as Keras's own callback demands."""

    def __init__(self, directory):
        super().__init__()
        self.directory, self.writer = str(directory), None

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        self.writer = self.writer or tf.summary.create_file_writer(self.directory)
        about = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"}, data_class="DATA_CLASS_SCALAR")
        with self.writer.as_default():
            for name, value in (logs or {}).items():
                tf.summary.write(f"epoch_{name}", tf.constant(float(value)), step=epoch, metadata=about)
        self.writer.flush()


def same_data(work, found):
    """A run that was interrupted must go on with the samples that it began with."""
    path = work / "data.json"
    if not path.exists():
        write_text(path, json.dumps(found))
    before = json.loads(path.read_text())
    if before != found:
        raise ValueError(f"Expected the data that the run in {work} began with, {before}. Received {found}. Begin anew: --fresh")


def versions():
    import tfdefense

    loaded = {name: sys.modules[name].__version__ for name in ("keras", "tensorflow", "jax", "numpy") if name in sys.modules}
    return {"python": platform.python_version(), "tfdefense": tfdefense.__version__, **loaded} | _commit()


def _commit():
    """The commit of the code, where it is a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        return {"commit": subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}
    except (OSError, subprocess.CalledProcessError):
        return {}


def started(work):
    """Adds the versions of this start to those before, and gives all: a run may be resumed by newer code than it began with."""
    path = work / "starts.json"
    starts = [*(json.loads(path.read_text()) if path.exists() else []), versions()]
    write_text(path, json.dumps(starts))
    return starts
