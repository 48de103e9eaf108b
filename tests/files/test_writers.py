"""What the library writes is whole or not there: each writer meets a file that may not grow beyond a size."""

import contextlib
import os

import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import tfdefense as td
from tfdefense import _cache, cli, plots

resource = pytest.importorskip("resource", reason="Windows limits no file sizes")


@contextlib.contextmanager
def files_of_at_most(size):
    """The system itself breaks off every write beyond that size, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def adversarial(path):
    plain = keras.Sequential([keras.Input((30,)), keras.layers.Dense(100), keras.layers.Dense(3)])
    td.AdversarialTraining(plain, td.attacks.FGSM(0.1)).save(path)


def zoo(path):
    result = CliRunner().invoke(cli.app, ["zoo", "digits_cnn.dnr", "--output", str(path)])
    if result.exit_code:
        assert result.exit_code == 2 and result.stderr == f"error: {path}: File too large.\n"
        raise OSError(result.stderr)


WRITERS = {
    "picture.png": lambda path: plots.matrix(np.eye(3), ["a", "b", "c"], ["a", "b", "c"], path),
    "000000.npz": lambda path: _cache.batches(path.parent, lambda number: {"x": np.zeros(5000)}, 1),
    "trained.keras": adversarial,
    "zoo.keras": zoo,
}


@pytest.mark.parametrize("name", WRITERS)
def test_interrupted_write_leaves_the_old_file(name, tmp_path):
    path, old = tmp_path / name, name != "000000.npz"  # a part that is there is not made again
    if old:
        path.write_bytes(b"old")
    with files_of_at_most(2000), pytest.raises(OSError):
        WRITERS[name](path)
    assert path.read_bytes() == b"old" if old else not path.exists()
    assert [each for each in os.listdir(tmp_path) if each not in (name, "000000.npz.lock")] == []
    WRITERS[name](path)
    assert path.stat().st_size > 2000


def test_trainer_does_not_overwrite_unless_it_may(tmp_path):
    path = tmp_path / "model.keras"
    plain = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    trainer = td.AdversarialTraining(plain, td.attacks.FGSM(0.1))
    trainer.save(path, overwrite=False)
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="model.keras is there already"):
        trainer.save(path, overwrite=False)
    assert path.read_bytes() == b"old"


def test_picture_without_a_suffix_is_a_png(tmp_path):
    plots.matrix(np.eye(2), ["a", "b"], ["a", "b"], tmp_path / "figure")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
