"""Processes that are killed while they replace a file: it holds the old content or the new one, whole."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.reliability.children import Children, ended
from tfdefense import _files
from tfdefense.export import formats

pytestmark = [pytest.mark.torture, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
OLD = b"old" * 400_000


def commands(folder):
    """What is killed: the command line, and the path that it replaces."""
    model, data = folder / "model.keras", ["--data", "digits", "--samples", "60"]
    return {
        "calibrate --output onto its own input": (["calibrate", model, *data, "--output", model], model),
        "export to .keras": (["export", model, folder / "out.keras"], folder / "out.keras"),
        "export to .onnx": (["export", model, folder / "out.onnx"], folder / "out.onnx"),
        "export to .tflite": (["export", model, folder / "out.tflite"], folder / "out.tflite"),
        "export to a SavedModel folder": (["export", model, folder / "served"], folder / "served"),
        "attack --output": (
            ["attack", model, *data, "--attack", "fgsm", "--epsilon", "0.1", "--output", folder / "out.npz"],
            folder / "out.npz",
        ),
    }


NAMES = list(commands(Path()))
SHARE = dict(zip(NAMES, (50, 40, 30, 30, 25, 25), strict=True))


@pytest.fixture
def place(tmp_path):
    return filled(tmp_path / "place")


def filled(folder):
    """A new folder with a defended model, and an old file or folder in the place of each output."""
    from tfdefense import zoo

    folder.mkdir()
    shutil.copyfile(zoo.weights("digits_cnn.dnr"), folder / "model.keras")
    for name in ("out.keras", "out.onnx", "out.tflite", "out.npz"):
        (folder / name).write_bytes(OLD)
    (folder / "served" / "variables").mkdir(parents=True)
    for name in ("saved_model.pb", "variables/variables.index", "variables/old"):
        (folder / "served" / name).write_bytes(OLD)
    return folder


def content(path):
    if path.is_dir():
        return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
    return path.read_bytes() if path.exists() else None


def restore(path, old):
    if isinstance(old, dict):
        shutil.rmtree(path, ignore_errors=True)
        for name, data in old.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    else:
        path.write_bytes(old)


def is_whole(path, new):
    """Whether the path holds what an undisturbed write left there. Archives and SavedModels hold times and random numbers, too."""
    found = content(path)
    if isinstance(new, dict):
        return found is not None and {name: len(data) for name, data in found.items()} == {n: len(data) for n, data in new.items()}
    if found == new:
        return True
    if not found or len(found) != len(new) or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as file:
        return file.testzip() is None


class Killer:
    """The first copy is left alone, to see how long a write takes and what it leaves. The others are killed at random moments."""

    def __init__(self, path, tries):
        self.path, self.tries, self.random = path, tries, random.Random(path.name)
        self.old, self.new, self.length = content(path), None, 0.0
        self.killed, self.in_the_middle, self.failures = 0, 0, []

    def wanted(self):
        return self.killed < self.tries

    def meet(self, child):
        began = time.monotonic()
        if self.new is None:
            code = ended(child)
            self.length, self.new = time.monotonic() - began, content(self.path)
            if code or self.new == self.old:
                raise RuntimeError(f"Expected an undisturbed write to replace {self.path.name}. Its process gave {code}.")
            restore(self.path, self.old)
            return
        time.sleep(self.random.uniform(0, self.length))
        os.kill(child, signal.SIGKILL)
        if ended(child) == -signal.SIGKILL:
            self.killed += 1
            self.judge()
        else:
            restore(self.path, self.old)  # it was faster

    def judge(self):
        if content(self.path) != self.old:
            if not is_whole(self.path, self.new):
                self.failures.append(f"kill {self.killed}: {self.path.name} is lost or truncated")
            restore(self.path, self.old)
        left = [name for name in os.listdir(self.path.parent) if name.startswith(_files._PREFIX)]
        self.in_the_middle += bool(left)
        if len(left) > 1:
            self.failures.append(f"kill {self.killed}: what earlier kills left was not cleaned up: {left}")


@pytest.mark.parametrize("name", NAMES)
def test_killed_write_loses_nothing(name, place, times, tally, monkeypatch, tmp_path):
    argv, path = commands(place)[name]
    killer = Killer(path, times(short=2, full=SHARE[name]))
    monkeypatch.setattr(formats, "write_folder", from_a_copy(tmp_path / "scratch"))
    Children(killer.wanted, killer.meet).run(argv, monkeypatch)
    assert killer.in_the_middle, "no kill came in the middle of a write"
    left = [name for name in os.listdir(place) if name.startswith(_files._PREFIX)]
    tally(f"kills, {name}", killer.killed, killer.failures + [f"left behind: {name}" for name in left])


def from_a_copy(scratch):
    """`write_folder` for copies of a process, in which TensorFlow can't write: it has written before, once."""

    def write_folder(path, write):
        write(scratch)
        _files.write_folder(path, lambda new: shutil.copytree(scratch, new))

    return write_folder


@pytest.mark.parametrize("name", ["calibrate --output onto its own input", "export to a SavedModel folder"])
def test_killed_program_loses_nothing(name, place, times, tally):
    """As above, with the program itself: each kill takes the seconds in which TensorFlow starts."""
    argv, path = commands(place)[name]
    command = [sys.executable, "-c", "from tfdefense.cli import main; main()", *map(str, argv)]
    killer = Killer(path, times(short=0, full=6))
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    killer.new, killer.length = content(path), 0.5
    restore(path, killer.old)
    while killer.wanted():
        before = listing(place)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and listing(place) == before:
            time.sleep(0.0005)
        time.sleep(killer.random.uniform(0, killer.length))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            killer.killed += 1
            killer.judge()
        else:
            killer.length /= 2
            restore(path, killer.old)
    tally(f"kills of the whole program, {name}", killer.killed, killer.failures)


def listing(folder):
    return [(entry.name, entry.stat().st_size, entry.stat().st_mtime_ns) for entry in os.scandir(folder)]
