"""What to type where a model comes in a format that is no more."""

import json
import zipfile
import zlib
from pathlib import Path

_MOST_METADATA = 2**16  # bytes; Keras writes less than a hundred


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
