"""What is malformed or hostile is one sentence, and nothing of it is run. tests/reliability tries hundreds of such files."""

import json
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import tfdefense as td
from tests.reliability import malformed_data, malforming
from tfdefense import _cache, cli
from tfdefense._untrusted import read_arrays, read_image
from tfdefense.cli._app import guarded
from tfdefense.cli._inputs import load_model

SCRIPT = "import sys; sys.argv = ['tfdefense', *sys.argv[1:]]; import tfdefense.cli as c; c.main()"


def fails(*arguments):
    """The one line of a command, run as a program of its own, that exits with 2."""
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
    return done.stderr


def test_a_pipe_in_place_of_a_model_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "model.keras")
    assert f"{tmp_path / 'model.keras'} is a pipe" in fails("info", tmp_path / "model.keras")
    load, told = td.load, []

    def read():
        with pytest.raises(ValueError) as error:
            load(tmp_path / "model.keras")
        told.append(str(error.value))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(timeout=20)
    assert told == [f"{tmp_path / 'model.keras'} is a pipe, a socket or a device. Expected a regular file."]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
@pytest.mark.parametrize("claimed", [None, 100], ids=["true", "lie"])
def test_metadata_that_unpacks_to_much_takes_no_memory(tmp_path, method, claimed):
    path, load = tmp_path / "model.keras", td.load
    swollen = b'{"keras_version": "2.15.0"' + b" " * 2**26 + b"}"
    content = bytearray(malforming.zipped({"metadata.json": swollen}, method))
    if claimed:
        struct.pack_into("<I", content, content.rindex(b"PK\x01\x02") + 24, claimed)
    path.write_bytes(content)
    for read in (load, load_model):
        tracemalloc.start()
        with pytest.raises(ValueError, match=str(path)):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
        tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_metadata_are_one_sentence(tmp_path, method):
    path = tmp_path / "model.keras"
    content = bytearray(malforming.zipped({"metadata.json": b"[" * 60_000}, method))
    path.write_bytes(content)
    with pytest.raises(ValueError, match="lacks config.json"):
        td.load(path)
    content[45] ^= 0xFF  # within what is packed
    path.write_bytes(content)
    with pytest.raises(ValueError, match="lacks config.json"):
        td.load(path)


@pytest.mark.parametrize(
    "content, held", [(b"", "an empty file"), (b"\x89HDF\r\n", "HDF5"), (b"version https://git-lfs", "git lfs pull")]
)
def test_file_that_is_no_keras_archive_says_what_it_is(tmp_path, content, held):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    for read in (td.load, load_model):
        with pytest.raises(ValueError, match="damaged, or no Keras file") as told:
            read(path)
        assert held in str(told.value) and str(path) in str(told.value) and "not found" not in str(told.value)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        td.load(tmp_path / "gone.keras")


def test_archive_of_other_things_says_what_it_holds(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("holiday.jpg", b"")
    with pytest.raises(ValueError, match="lacks config.json or the weights. Received a zip archive of holiday.jpg"):
        td.load(tmp_path / "model.keras")


def test_flipped_bit_in_a_model_is_seen(tmp_path, defended):
    path = tmp_path / "model.keras"
    defended.save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} is damaged, in its part"):
        td.load(path)


def test_huge_header_takes_no_memory(tmp_path):
    path = tmp_path / "mine.npz"
    path.write_bytes(malforming.zipped({"x.npy": malforming.npy(malforming.header((10**9, 28)))}))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"'x' claims shape \(1000000000, 28\) of uint8, 28,000,000,000 bytes, and holds 0"):
        read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_what_savez_writes_is_read(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.array(["x", "yes"]), "c": np.array(3), "d": np.zeros((0, 4), "uint8")}
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "some.npz", **arrays)
        found, names = read_arrays(tmp_path / "some.npz")
        assert set(names) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array, strict=True)


def test_picture_of_another_format_starts_no_program(tmp_path, monkeypatch):
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 24\n%%EndComments\nshowpage\n")
    with pytest.raises(OSError):
        Image.open(tmp_path / "a.png").load()  # What PIL does when it is asked for any format; our `gs` writes no picture.
    assert (tmp_path / "started").exists(), "the trap does not work"
    (tmp_path / "started").unlink()
    with pytest.raises(ValueError, match=f"{tmp_path / 'a.png'} can't be read as an image"):
        read_image(tmp_path / "a.png")
    assert not (tmp_path / "started").exists()


def test_picture_that_unpacks_to_gigabytes_is_refused(tmp_path):
    (tmp_path / "bomb.png").write_bytes(malformed_data.png_of(60_000, 60_000))
    with pytest.raises(ValueError, match="bomb.png can't be read as an image.*exceeds limit"):
        read_image(tmp_path / "bomb.png")


def test_features_of_a_set_import_nothing(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hostile.py").write_text("")
    place = tmp_path / "mnist" / "3.0.1"
    place.mkdir(parents=True)
    split = {"name": "test", "shardLengths": ["1"], "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"}
    (place / "dataset_info.json").write_text(json.dumps({"name": "mnist", "version": "3.0.1", "splits": [split]}))
    (place / "features.json").write_text(json.dumps({"pythonClassName": "hostile.Features"}))
    with pytest.raises(ValueError, match="names the feature 'hostile.Features', whose module would be imported"):
        td.data.load("mnist", "test", data_dir=tmp_path)
    assert "hostile" not in sys.modules


@pytest.mark.parametrize("value", [2**62, 2**64 - 1, 10])
def test_class_number_beyond_the_model_is_refused(defended, held_out, value):
    x, y = held_out.x[:20], held_out.y[:20].astype("uint64")
    y[3] = value
    adaptable = td.NeuralRejection().attach(td.base_model(defended))
    for call in (
        lambda: td.evaluate(defended, x, y),
        lambda: td.adapt(adaptable, x, y),
        lambda: td.attacks.FGSM(0.1)(defended, x, y),
    ):
        with pytest.raises(ValueError, match=f"0 to 9.*{value}"):
            call()


def test_largest_number_is_no_rejection():
    with pytest.raises(ValueError, match="`label` must lie in -1 to 999999"):
        td.metrics.Outcomes.of(np.array([2**64 - 1], "uint64"), [0])


@pytest.mark.parametrize("content", [b"", b"PK", b"hello" * 100])
def test_damaged_cached_batch_is_made_again_and_said(tmp_path, content):
    def make(number):
        return {"x": np.full(3, number)}

    _cache.batches(tmp_path, make, 3)
    (tmp_path / "000001.npz").write_bytes(content)
    with pytest.warns(UserWarning, match="000001.npz.*This cached batch is made again"):
        found = _cache.batches(tmp_path, make, 3)
    assert [part["x"].tolist() for part in found] == [[0] * 3, [1] * 3, [2] * 3]
    _cache.batches(tmp_path, lambda number: pytest.fail("mended already"), 3)


def test_cached_batch_with_other_arrays_is_made_again(tmp_path):
    np.savez(tmp_path / "000000.npz", z=np.zeros(3))
    with pytest.warns(UserWarning, match="must hold the arrays x"):
        (found,) = _cache.batches(tmp_path, lambda number: {"x": np.ones(3)}, 1, names=["x"])
    assert found["x"].tolist() == [1, 1, 1]


def raising(error):
    @cli.app.command("raise", hidden=True)
    @guarded
    def command(model: str):
        raise error

    result = CliRunner().invoke(cli.app, ["raise", __file__])
    cli.app.registered_commands.pop()
    return result


UNFORESEEN = [
    KeyError("image"),
    EOFError(),
    RecursionError("too deep"),
    zipfile.BadZipFile("no zip"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    TypeError("two\nlines"),
]


@pytest.mark.parametrize("error", UNFORESEEN, ids=lambda error: type(error).__name__)
def test_unforeseen_error_is_one_line_that_names_kind_and_file(error, monkeypatch):
    monkeypatch.delenv("TFDEFENSE_TRACEBACK", raising=False)
    result = raising(error)
    assert result.exit_code == 2 and not result.stdout
    line = result.stderr
    assert line.count("\n") == 1 and line.startswith(f"error: unexpected {type(error).__name__}")
    assert __file__ in line and "please report" in line
    monkeypatch.setenv("TFDEFENSE_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in raising(error).stderr


def test_lack_of_memory_is_no_bug_and_exits_stay(monkeypatch):
    lack = raising(MemoryError())
    assert lack.exit_code == 2 and "the memory does not suffice" in lack.stderr and "bug" not in lack.stderr
    import typer

    assert raising(typer.Exit(3)).exit_code == 3
    assert raising(KeyboardInterrupt()).exit_code == 130
