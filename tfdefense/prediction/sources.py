"""Samples in batches, from whatever holds them, one batch in memory at a time."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfdefense._untrusted import check_file, decode_image, read_arrays, readable, strict_images
from tfdefense._validation import _batches, _is_data_set, _parts, check_same_length, range_of

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")
ARRAYS = (".npz", ".npy")
RECORDS = (".tfrecord", ".tfrecords")
# Pictures that are read at once beside the model.
_THREADS = 4
# What a record may call its picture, as `tf.train.Example` files do.
_ENCODED = ("image/encoded", "image", "image_raw", "jpeg")


@dataclass
class Batch:
    """Some samples, in order.

    Attributes:
        x: Those that could be read.
        names: Name of each, those that could not be read among them; None where samples have none.
        y: Their labels, where the source has them.
        faults: Place among all -> why it could not be read.
    """

    x: np.ndarray | None
    names: list[str] | None = None
    y: np.ndarray | None = None
    faults: dict[int, str] = field(default_factory=dict)

    def __len__(self):
        return (0 if self.x is None else len(self.x)) + len(self.faults)


@dataclass(frozen=True)
class Wanted:
    """What a model takes: its input shape with the axis of the batch, the range of its values, and how many at once.

    `resize` moves pictures of another size to the model's, bilinearly. Without it they can't be read.
    """

    shape: tuple[int | None, ...] | None
    bounds: tuple[float, float]
    size: int
    resize: bool = False


def batches_of(data: Any, wanted: Wanted, y: Any = None) -> Iterator[Batch]:
    """Batches of at most `wanted.size` samples from an array, a data set of batches, or paths of files and folders."""
    if isinstance(data, str | os.PathLike) or _are_paths(data):
        if y is not None:
            raise ValueError("Expected labels with arrays alone. Received them beside a path: leave `y` out.")
        yield from _from_paths([data] if isinstance(data, str | os.PathLike) else data, wanted)
    elif _is_data_set(data):
        if y is not None:
            raise ValueError("Expected labels once. Received them in the data set and as `y`: leave `y` out.")
        for batch in _batches(data):
            x, *labels = _parts(batch, data)
            yield from _slices(x, wanted.size, labels[0] if labels else None)
    else:
        data = np.asarray(data)
        yield from _slices(data, wanted.size, None if y is None else np.asarray(y))


def first_shape(data: Any) -> tuple[int, ...] | None:
    """The shape of one sample of an array; None where it takes reading to know it."""
    return np.shape(data)[1:] if hasattr(data, "shape") else None


def _are_paths(data):
    return isinstance(data, list | tuple) and len(data) > 0 and all(isinstance(one, str | os.PathLike) for one in data)


def _slices(x, size, y=None, names=None):
    if y is not None:
        check_same_length(x=x, y=y)
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        yield Batch(x[part], None if names is None else names(start, min(start + size, len(x))), None if y is None else y[part])


def _from_paths(paths, wanted):
    low, high = range_of(wanted.bounds, "A file of pictures")
    waiting: list[Path] = []
    found = False
    for path in _expanded(paths):
        found = True
        if path.suffix.lower() not in ARRAYS + RECORDS:
            waiting.append(path)
            if len(waiting) == wanted.size:
                yield from _read(waiting, _picture, wanted)
                waiting = []
            continue
        # The order of the rows is that of the paths.
        yield from _read(waiting, _picture, wanted)
        waiting = []
        if path.suffix.lower() in ARRAYS:
            yield from _from_arrays(path, wanted, low, high)
        else:
            yield from _from_records(path, wanted)
    yield from _read(waiting, _picture, wanted)
    if not found:
        raise ValueError(f"No pictures in {', '.join(map(str, paths))}. Expected files that end in {', '.join(PICTURES)}.")


def _expanded(paths: Sequence[Any]) -> Iterator[Path]:
    """Files, in order: of folders all pictures in them, sorted folder by folder; of patterns what they match."""
    for given in paths:
        path = Path(given)
        if path.is_dir():
            yield from _in_folder(path)
        elif path.exists() or not glob.has_magic(str(given)):
            # One that is not there is a row that says so: the others are not held up.
            yield path
        else:
            matches = sorted(glob.glob(str(given), recursive=True))
            if not matches:
                raise FileNotFoundError(f"No file matches {given}.")
            yield from _expanded(matches)


def _in_folder(folder):
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in PICTURES + ARRAYS + RECORDS:
                yield Path(parent, name)


def _read(sources, read, wanted, names=None):
    """Pictures as batches of one shape each: of a model that takes any size the next batch begins where the size changes."""
    if not sources:
        return
    names = [str(source) for source in sources] if names is None else names
    with strict_images(), ThreadPoolExecutor(_THREADS) as pool:
        read_all = list(pool.map(lambda source: read(source, wanted), sources))
    group: list[np.ndarray] = []
    faults: dict[int, str] = {}
    begin = 0
    for place, one in enumerate(read_all):
        if isinstance(one, str):
            faults[place - begin] = one
            continue
        if group and one.shape != group[0].shape:
            yield _batch(group, names[begin:place], faults, wanted)
            group, faults, begin = [], {}, place
        group.append(one)
    yield _batch(group, names[begin:], faults, wanted)


def _batch(group, names, faults, wanted):
    return Batch(_moved(np.stack(group), wanted.bounds) if group else None, names, None, faults)


def _moved(x, bounds):
    """Pictures, of whole numbers from 0 to 255 or of floats from 0 to 1, within the bounds of a model."""
    low, high = bounds
    x = x.astype("float32") / (255 if x.dtype.kind in "iu" else 1)
    return x if (low, high) == (0.0, 1.0) else x * np.float32(high - low) + np.float32(low)


def _picture(source, wanted):
    """The pixels of a picture as the model takes them, as whole numbers; or a sentence on why not."""
    return _decoded(lambda: check_file(source), wanted)


def _decoded(open_source, wanted):
    try:
        return _pixels(decode_image(open_source()), wanted)
    except Exception as error:  # a parser of somebody else's bytes
        return " ".join(str(error).split())[:300] or type(error).__name__


def _pixels(image, wanted):
    from PIL import Image

    height, width, channels = (wanted.shape or (None,) * 4)[1:] if wanted.shape is None or len(wanted.shape) == 4 else (None,) * 3
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"Expected 8 bits a channel. Received a picture of mode {image.mode}.")
    if channels not in (None, 1, 3):
        raise ValueError(f"Pictures have 1 or 3 channels. The model takes {channels}: pass arrays.")
    image = image.convert("L" if channels == 1 else "RGB")
    asked = (width or image.width, height or image.height)
    if image.size != asked:
        if not wanted.resize:
            raise ValueError(f"Expected {asked[0]} x {asked[1]} pixels. Received {image.width} x {image.height}.")
        image = image.resize(asked, Image.Resampling.BILINEAR)
    x = np.asarray(image)
    return x[..., None] if x.ndim == 2 else x


def _from_arrays(path, wanted, low, high):
    """The samples of an `.npz` file, which is read whole, or of an `.npy` file, which is not."""
    check_file(path)
    labels = None
    if path.suffix.lower() == ".npy":
        with readable(path, "an array of NumPy"):
            x = np.lib.format.open_memmap(path, mode="r")
    else:
        arrays, keys = read_arrays(path, ("x", "images", "x_test", "y", "labels", "y_test"))
        name = next((key for key in ("x", "images", "x_test") if key in arrays), None)
        if name is None:
            raise ValueError(f"{path} must hold the samples as x, images or x_test. Received: {', '.join(sorted(keys)[:10])}.")
        x, labels = arrays[name], arrays.get({"x": "y", "images": "labels", "x_test": "y_test"}[name])
    if x.dtype.kind not in "iuf" or x.ndim < 2:
        raise ValueError(f"{path} must hold numbers of shape (n, ...). Received {x.dtype} of shape {x.shape}.")
    if wanted.shape is not None and x.ndim == len(wanted.shape) - 1 and wanted.shape[-1] == 1:
        x = x[..., None]
    labels = None if labels is None or labels.dtype.kind not in "iu" else labels.reshape(-1)
    for batch in _slices(x, wanted.size, labels, lambda begin, end: [f"{path}#{place}" for place in range(begin, end)]):
        batch.x = _moved(np.asarray(batch.x), (low, high))
        yield batch


def _from_records(path, wanted):
    """The encoded pictures of a file of `tf.train.Example` records."""
    import tensorflow as tf

    waiting: list[bytes] = []
    done = 0
    with readable(path, "records of TensorFlow"):
        records = iter(tf.data.TFRecordDataset(str(check_file(path))))
    while True:
        with readable(path, "records of TensorFlow"):
            record = next(records, None)
        if record is not None:
            waiting.append(record.numpy())
        if waiting and (record is None or len(waiting) == wanted.size):
            names = [f"{path}#{done + place}" for place in range(len(waiting))]
            yield from _read(waiting, _recorded, wanted, names)
            done, waiting = done + len(waiting), []
        if record is None:
            if not done:
                raise ValueError(f"{path} holds no records of TensorFlow.")
            return


def _recorded(record, wanted):
    import tensorflow as tf

    def encoded():
        features = tf.train.Example.FromString(record).features.feature
        name = next((key for key in _ENCODED if features[key].bytes_list.value), None)
        if name is None:
            raise ValueError(f"The record has no encoded picture as {', '.join(_ENCODED)}.")
        return io.BytesIO(features[name].bytes_list.value[0])

    return _decoded(encoded, wanted)
