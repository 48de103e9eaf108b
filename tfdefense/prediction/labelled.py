"""Samples with their true classes, in batches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfdefense._validation import _is_data_set, check_labels, check_same_length, numbered, pairs
from tfdefense.prediction.predicting import at_once
from tfdefense.prediction.sources import Wanted, batches_of
from tfdefense.view import View


def labelled_batches(
    view: View, x: Any, y: Any, batch_size: int | None, devices: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of samples, as float32, and of their classes: of arrays, a data set of batches, or a folder of folders.

    Without a `batch_size` they are as large as fits on so many `devices`.
    """
    if isinstance(x, str | os.PathLike):
        yield from _of_folder(view, Path(x), y, batch_size, devices)
        return
    if not _is_data_set(x):
        x, y = pairs(x, y)
        x = view.check_shape(x)
        y = check_labels(y)
        # Told before the work.
        check_same_length(x=x, y=y)
    elif y is not None:
        raise ValueError("Expected labels once. Received them in the data set and as `y`: leave `y` out.")
    empty = True
    for batch in batches_of(x, Wanted(view.input_shape, view.bounds, batch_size or devices * at_once(view, x)), y):
        if batch.y is None:
            raise ValueError("Expected labels. Received samples alone: pass `y`, or a data set of batches (samples, labels).")
        empty = False
        yield view.check_shape(np.asarray(batch.x)).astype("float32", copy=False), batch.y
    if empty:
        raise ValueError(f"Expected at least one batch. Received an empty {type(x).__name__}.")


def _of_folder(view, path, y, batch_size, devices):
    from tfdefense.contract import class_names
    from tfdefense.data import own

    if y is not None or not path.is_dir():
        raise ValueError(f"Expected a folder with one sub-folder for each class, and no `y`. Received: {path}.")
    files, labels, found = own.labelled(path)
    names = class_names(view.model) if view.is_keras else None
    if names is not None:
        labels = numbered(labels, found, names, str(path))
    elif len(found) != view.classes:
        raise ValueError(
            f"{path} has {len(found)} classes and the model {view.classes}, so which is which is not known. Name the model's: "
            "`attach(model, class_names=[...])`."
        )
    done = 0
    for batch in batches_of(files, Wanted(view.input_shape, view.bounds, batch_size or devices * at_once(view, path))):
        for place, why in batch.faults.items():
            # One that is left out would make the shares those of another set.
            raise ValueError(f"{files[done + place]} can't be read: {why}")
        yield np.asarray(batch.x), labels[done : done + len(batch)]
        done += len(batch)
