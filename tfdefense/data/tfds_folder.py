"""A folder in the format of TensorFlow Datasets, as anybody may have written it: checked before TensorFlow reads it.

TensorFlow Datasets imports the modules that `features.json` names, and TensorFlow ends the process where it is promised more
records than memory holds.
"""

import math
from pathlib import Path

import numpy as np

from tfdefense._untrusted import MOST_CLASSES, check_file, check_folder, memory, read_json, readable

_FEATURES = "tensorflow_datasets.core.features."
_RECORD = 16  # bytes: the length of what follows and its checksum, and behind it another
_WHAT = "a data set of TensorFlow Datasets"


def splits(folder):
    """Splits by name, each with the numbers of samples in its files."""
    info = read_json(folder / "dataset_info.json")
    if info.get("fileFormat", "tfrecord") != "tfrecord":
        raise ValueError(f"{folder} must hold TFRecord files. Received fileFormat: {info['fileFormat']!r}.")
    found = info.get("splits")
    if not isinstance(found, list) or not all(isinstance(split, dict) and isinstance(split.get("name"), str) for split in found):
        raise ValueError(f"{folder / 'dataset_info.json'} must list its splits by name. Received: {str(found)[:100]}.")
    return {split["name"]: _lengths(folder, split) for split in found}


def read(folder, split):
    """Arrays by feature, the names of the classes, and those of the coarse classes."""
    import tensorflow_datasets as tfds

    lengths = splits(folder)
    lengths = lengths if split == "all" else {split: lengths[split]}
    samples = sum(map(sum, lengths.values()))
    check_folder(folder)
    _check_total(folder, samples)
    _check_features(folder / "features.json", samples)
    with readable(folder, _WHAT):
        # tfds.load asks the network about a set that its code knows; this reads the folder and nothing else.
        builder = tfds.builder_from_directory(str(folder))
        files = [pair for name in lengths for pair in zip(builder.info.splits[name].filepaths, lengths[name], strict=True)]
        features = builder.info.features
        classes, coarse = (tuple(features[key].names) if key in features else () for key in ("label", "coarse_label"))
    for path, count in files:
        _check_records(Path(path), count)
    with readable(folder, _WHAT):
        arrays = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        arrays = {key: array for key, array in arrays.items() if array.dtype != object}
    _check_arrays(folder, arrays, samples, classes)
    return arrays, classes, coarse


def _lengths(folder, split):
    try:
        lengths = [int(length) for length in split.get("shardLengths", [])]
    except (TypeError, ValueError):
        lengths = [-1]
    if not lengths or min(lengths) < 0:
        raise ValueError(
            f"{folder / 'dataset_info.json'} must have the numbers of samples in the files of {split['name']!r}, shardLengths. "
            f"Received: {str(split.get('shardLengths'))[:100]}."
        )
    return lengths


def _check_total(folder, samples):
    """What reading would make room for, before any file is looked into; `_check_records` counts exactly."""
    held = sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) // _RECORD
    if samples > held:
        raise ValueError(f"{folder} is damaged: dataset_info.json promises {samples:,} records, more than its files can hold.")


def _check_features(path, samples):
    """That only features of TensorFlow Datasets itself are named, which are imported, and none is too large."""
    waiting = [read_json(path)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        if not isinstance(part, dict):
            continue
        waiting += part.values()
        for key in ("pythonClassName", "type"):
            if isinstance(part.get(key), str) and not part[key].startswith(_FEATURES):
                raise ValueError(
                    f"{path} names the feature {part[key]!r}, whose module would be imported. Expected one of {_FEATURES[:-1]}."
                )
        _check_size(path, part, samples)


def _check_size(path, part, samples):
    for key in ("numClasses", "num_classes"):
        if not 0 <= _whole(part.get(key, 0)) <= MOST_CLASSES:
            raise ValueError(f"{path} must have at most {MOST_CLASSES:,} classes. Received {key}: {str(part[key])[:100]}.")
    if "dimensions" in part:
        shape = part["dimensions"] if isinstance(part["dimensions"], list) else [math.inf]
        if math.prod(abs(_whole(side)) for side in shape) * samples > memory():
            raise ValueError(f"{path} claims samples of shape {str(shape)[:100]}: {samples:,} of them are larger than the memory.")


def _whole(value):
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return math.inf


def _check_records(path, count):
    """That a TFRecord file holds as many records as are claimed, each of them whole."""
    size, place, found = check_file(path).stat().st_size, 0, 0
    with open(path, "rb") as file:
        while place < size and found <= count:
            file.seek(place)
            place += _RECORD + int.from_bytes(file.read(12)[:8], "little")
            found += 1
    if place > size or found != count:
        have = f"record {found} is cut off or damaged" if place > size else f"it holds {'more' if found > count else found}"
        raise ValueError(f"{path} is damaged: dataset_info.json promises {count:,} records, and {have}. Copy the folder again.")


def _check_arrays(folder, arrays, samples, classes):
    x, y = arrays.get("image"), arrays.get("label", arrays.get("index"))
    if x is None or y is None:
        raise ValueError(f"{folder} must have the features image and label (or index). Received: {', '.join(arrays) or 'none'}.")
    if x.ndim != 4 or x.dtype != np.uint8 or not samples or len(x) != samples:
        raise ValueError(f"{folder} must hold {samples:,} images of 8 bits. Received {x.dtype} of shape {x.shape}.")
    wrong = {key: array.shape for key, array in arrays.items() if len(array) != samples}
    if "depth" in arrays and arrays["depth"].shape[:-1] != x.shape[:-1]:
        wrong["depth"] = arrays["depth"].shape
    if wrong or y.shape != (samples,) or y.dtype.kind not in "iu":
        raise ValueError(f"{folder} must have one label for each image, and a depth of its size. Received: {wrong or y.shape}.")
    if "label" in arrays and (y.min() < 0 or y.max() >= len(classes)):
        raise ValueError(f"{folder} must have labels from 0 to {len(classes) - 1}. Received {y.min()} to {y.max()}.")
