"""Files that anybody may have written: checked for what they are, and how large, before a parser believes them.

Each check raises one sentence that names the file. Importing this loads nothing else.
"""

import contextlib
import json
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

# More classes than any data set has; a list of names that is made for each must end.
MOST_CLASSES = 1_000_000
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF")
_MOST_JSON = 2**26
_DEFLATE = 1032  # times: more than this the method can't make of a byte
_MOST_METADATA = 2**16  # bytes; Keras writes less than a hundred
_STARTS = {
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "the beginning of a zip archive, cut off or overwritten",
    b"\x1f\x8b": "a gzip file: unpack it",
    b"version https://git-lfs": "a pointer of Git LFS: `git lfs pull` fetches the file",
    b"<!DOCTYPE": "a web page: the download went wrong",
    b"<html": "a web page: the download went wrong",
    b"\x80": "perhaps a pickle",
}


def check_file(path):
    """The path of a regular file; what a pipe or a device gives has no end."""
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Expected a file.")
    if not path.is_file():
        raise ValueError(f"{path} is a pipe, a socket or a device. Expected a regular file.")
    return path


@contextlib.contextmanager
def readable(path, what):
    """Around a parser that is not ours and may raise whatever it likes: one sentence that names the file."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} can't be read as {what}: {reason or type(error).__name__}") from error


def read_json(path):
    """What a JSON file holds, an object."""
    path = check_file(path)
    if path.stat().st_size > _MOST_JSON:
        raise ValueError(f"{path} is larger than any description of data or models. Expected a JSON file below 64 MiB.")
    with readable(path, "JSON"):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object. Received: {type(content).__name__}.")
    return content


def read_image(path):
    """A picture, loaded, of one of the formats that need no other program and no more memory than PIL allows."""
    path = check_file(path)
    with readable(path, f"an image ({', '.join(IMAGE_FORMATS)})"), strict_images():
        return decode_image(path)


@contextlib.contextmanager
def strict_images():
    """Around `decode_image`, once for all threads that call it: filters of warnings are those of the whole process."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of metadata.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_image(source):
    """A picture of a path or a file object, loaded; within `strict_images`."""
    from PIL import Image

    # An open list of formats has EPS in it, for which PIL starts Ghostscript.
    with Image.open(source, formats=IMAGE_FORMATS) as image:
        image.load()
        return image.copy()


def read_arrays(path, names=None):
    """Arrays of an `.npz` file by name, all or those of `names` that are there. Sizes are checked before memory is taken.

    Only what `numpy.savez` writes of plain arrays passes: numbers, booleans and strings.
    """
    path = check_file(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a readable .npz file: {_held(path)}. Write it with np.savez(path, x=x, y=y).")
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        _check_sizes(path, archive)
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        wanted = members if names is None else [name for name in names if name in members]
        return {name: _read_array(path, archive, members[name]) for name in wanted}, tuple(members)


def check_keras_file(path):
    """That a `.keras` file is whole and holds a model, as far as its list of contents says; nothing of it is run."""
    path = check_file(path)
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"{path} is damaged, or no Keras file: a .keras file is a zip archive. Received: {_held(path)}. "
            "Copy it again, or save the model again: `model.save(path)`."
        )
    with _zip_errors(path), zipfile.ZipFile(path) as archive:
        _check_sizes(path, archive)
        names = archive.namelist()
        if "config.json" not in names or not any(name.startswith("model.weights.") for name in names):
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise ValueError(
                f"{path} is no Keras file: it lacks config.json or the weights. Received a zip archive of {shown or 'nothing'}. "
                "Save the model with `model.save(path)`."
            )
        # Reading a member compares its checksum; Keras passes over a damaged one until the weights don't fit.
        if damaged := archive.testzip():
            raise ValueError(f"{path} is damaged, in its part {damaged}. Copy it again, or save the model again.")


def check_model(found, path):
    """That what Keras made of a file is a model: a file may hold a layer alone."""
    import keras

    if not isinstance(found, keras.Model):
        raise ValueError(
            f"{path} holds no model. Received an object of type {type(found).__name__}. Save the model that it is part of."
        )


def check_saved_model(path):
    """That a folder is a SavedModel made of files and folders alone."""
    path = Path(path)
    if not (path / "saved_model.pb").exists():
        raise ValueError(f"{path} is no SavedModel: it has no saved_model.pb. Expected such a directory, or a .keras file.")
    check_folder(path)


def check_folder(path):
    """That a folder holds files and folders alone: who opens a pipe waits for ever."""
    for inside in Path(path).rglob("*"):
        if inside.exists() and not inside.is_dir():
            check_file(inside)


def _held(path):
    with open(path, "rb") as file:
        start = file.read(32)
    if not start:
        return "an empty file"
    return next((text for magic, text in _STARTS.items() if start.startswith(magic)), f"a file that begins with {start[:8]!r}")


@contextlib.contextmanager
def _zip_errors(path):
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, OverflowError, RuntimeError, UnicodeError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split()) or 'it ends too early'}. Write it again.") from error


def _check_sizes(path, archive):
    """Whether the sizes that an archive claims can be true, and fit into this machine."""
    infos = archive.infolist()
    if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1 for info in infos):
        raise ValueError(f"{path} is packed or encrypted in a way that neither NumPy nor Keras writes. Write it again.")
    packed, whole = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    if packed > path.stat().st_size or any(info.file_size > _DEFLATE * info.compress_size + 64 for info in infos):
        raise ValueError(f"{path} is damaged: its list of contents claims {whole:,} bytes, more than it can hold. Write it again.")
    if whole > memory():
        raise ValueError(f"{path} holds {whole / 2**30:,.0f} GiB, more than the memory of this machine. Make it smaller.")


def memory():
    """Bytes of memory that this machine has."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def _read_array(path, archive, info):
    import numpy as np

    name = info.filename.removesuffix(".npy")
    with archive.open(info) as member:
        shape, dtype = _header(path, name, member)
        if dtype.hasobject:
            raise ValueError(f"{path} holds Python objects in {name!r}. Save plain arrays, as np.savez(path, x=x, y=y).")
        if dtype.kind not in "biufSU" or dtype.itemsize == 0 or any(side < 0 for side in shape):
            raise ValueError(f"{path} must hold numbers or strings. Received {name!r} of {dtype}, shape {shape}.")
        claimed = math.prod(shape) * dtype.itemsize
        if claimed != info.file_size - member.tell():
            raise ValueError(
                f"{path} is damaged: {name!r} claims shape {shape} of {dtype}, {claimed:,} bytes, and holds "
                f"{info.file_size - member.tell():,}. Write it again with np.savez."
            )
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read(1)  # The checksum is compared at the end.
    return array


def _header(path, name, member):
    import numpy as np

    try:
        version = np.lib.format.read_magic(member)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(member)
    except (ValueError, TypeError, KeyError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ValueError(f"{path} is not a readable .npz file: {name!r} is no plain array. Write it with np.savez.") from error
    return shape, dtype


def check_format(path):
    """Nothing where a `.keras` file of Keras 3 may be; else an error that says how to get one."""
    path = Path(path)
    if path.suffix in (".h5", ".hdf5"):
        raise ValueError(
            f"{path} has the format of older Keras versions. Expected a .keras file. Convert it once: "
            f"`keras.models.load_model({str(path)!r}, compile=False).save({str(path.with_suffix('.keras'))!r})`. Where that fails, "
            f"build the same network and take its weights: `model.load_weights({str(path)!r})`."
        )
    if _is_of_keras_2(path):
        raise ValueError(
            f"{path} was written by Keras 2. Expected a .keras file of Keras 3. Convert it once, by way of HDF5 "
            f"(`pip install tf_keras`): `tf_keras.models.load_model({str(path)!r}).save('old.h5')`, then "
            "`keras.models.load_model('old.h5', compile=False).save('new.keras')`."
        )
    if path.is_dir():
        raise ValueError(
            f"{path} is a SavedModel, which holds no layers any more. Expected a .keras file: the one that it was exported from. "
            f"Its decisions can be asked for: `td.view.decide(tf.saved_model.load({str(path)!r}), x)`."
        )


def _is_of_keras_2(path):
    if path.is_dir():
        return (path / "keras_metadata.pb").exists()
    if not path.is_file():  # Who opens a pipe waits for ever.
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(_metadata(archive))["keras_version"]).startswith("2.")
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error):
        # Who loads it says what is wrong with it.
        return False


def _metadata(archive):
    info = archive.getinfo("metadata.json")
    # Other methods unpack a whole block at once, however little is asked for.
    if info.file_size >= _MOST_METADATA or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("No metadata of Keras.")
    with archive.open(info) as member:
        return member.read(_MOST_METADATA)  # The size may be a lie.
