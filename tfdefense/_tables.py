"""Predictions as rows of a file, CSV or Parquet, written and read in pieces."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from tfdefense._files import write_file
from tfdefense._reasons import ALL_REASONS as REASONS
from tfdefense._untrusted import check_file, readable
from tfdefense._validation import PathLike

if TYPE_CHECKING:
    from tfdefense.prediction import Predictions

COLUMNS = ("file", "class", "label", "confidence", "suspicion", "reason")
SUFFIXES = (".csv", ".parquet")
_ROWS = 65_536  # of a group of a Parquet file, and read at once


def write(path: PathLike, parts: Iterable[Predictions]) -> int:
    """Writes predictions as they come, a row a sample, and gives how many there are.

    Columns: file (or its number, of samples without a name), class, label, confidence, suspicion, reason. The class is empty and
    the label -1 where a sample is rejected. Numbers that there are none of are empty: the confidence of what could not be read,
    the suspicion of a model that rejects nothing. A suspicion may be `inf`.

    Args:
        path: Ends in `.csv` or `.parquet`; the latter needs `pip install tfdefense[parquet]`.
        parts: What `stream` gives, or a list.

    Example:

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.csv"
    >>> td.prediction.write(path, td.prediction.stream(defended, x))
    8
    >>> path.read_text().splitlines()[0]
    'file,class,label,confidence,suspicion,reason'
    """
    path = checked(path)
    count = 0

    def counted():
        nonlocal count
        for part in parts:
            yield part
            count += len(part)

    write_file(path, lambda new: (_write_csv if path.suffix == ".csv" else _write_parquet)(new, counted()))
    return count


def _write_csv(new, parts):
    with open(new, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows_of(file, parts)


def checked(path: PathLike) -> Path:
    """The path of a table, of a kind that can be written here."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"Expected a path that ends in {' or '.join(SUFFIXES)}. Received: {path}.")
    if path.suffix == ".parquet":
        _arrow()
    return path


def _row(part, place, number):
    name = str(number) if part.names is None else part.names[place]
    confidence = float(part.confidence[place])
    suspicion = None if part.suspicion is None else float(part.suspicion[place])
    numbers = (None if np.isnan(confidence) else confidence, suspicion)
    return (name, part.class_name(place), int(part.label[place]), *numbers, part.why(place))


def rows_of(file: TextIO, parts: Iterable[Predictions]) -> None:
    """The rows of predictions as CSV, into an open file."""
    count = 0
    writer = csv.writer(file, lineterminator="\n")
    for part in parts:
        if not count:  # Nothing before the first: what is wrong is told before that.
            writer.writerow(COLUMNS)
        rows = (_row(part, place, count + place) for place in range(len(part)))
        writer.writerows([(*row[:3], *map(_digits, row[3:5]), row[5]) for row in rows])
        count += len(part)


def _digits(value):
    """Nine digits keep a float32 whole."""
    return "" if value is None else f"{value:.9g}"


def _write_parquet(new, parts):
    arrow, parquet = _arrow()
    kinds = (arrow.string(), arrow.string(), arrow.int32(), arrow.float32(), arrow.float32(), arrow.string())
    schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
    waiting: list[tuple] = []

    def flush(writer):
        columns = [list(column) for column in zip(*waiting, strict=True)]
        # A path may hold bytes that are no text, which Parquet refuses.
        columns[0] = [os.fsencode(name).decode("utf-8", "replace") for name in columns[0]]
        arrays = [arrow.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
        waiting.clear()

    with parquet.ParquetWriter(str(new), schema) as writer:
        count = 0
        for part in parts:
            waiting += [_row(part, place, count + place) for place in range(len(part))]
            count += len(part)
            if len(waiting) >= _ROWS:
                flush(writer)
        if waiting:
            flush(writer)


def reasons_of(path: PathLike) -> Iterator[np.ndarray]:
    """Reasons alone, as places in `td.prediction.REASONS`, of a Parquet table of predictions, in pieces."""
    for _, reason in _read_parquet(checked(check_file(path))):
        yield np.array([_reason(text, path) for text in reason], "int8")


def read_table(path: PathLike) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Reads a table of predictions piece by piece: suspicions, and reasons as places in `td.prediction.REASONS`.

    Args:
        path: A `.csv` or `.parquet` file, as `td.predict` writes it.
    """
    path = checked(check_file(path))
    pieces = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    for suspicion, reason in pieces:
        if None in suspicion or "" in suspicion:
            raise ValueError(f"{path} has rows without a suspicion: its model rejects nothing. Expected those of a defended model.")
        with readable(path, "a table of predictions"):
            numbers = np.array(suspicion, "float64")
        yield numbers, np.array([_reason(text, path) for text in reason], "int8")


def _reason(text, path):
    # What stands behind a colon is the detector, or what is wrong with a file.
    name = str(text).split(":", 1)[0]
    if name not in REASONS:
        raise ValueError(f"{path} must have reasons among {', '.join(REASONS)}. Received: {text!r}.")
    return REASONS.index(name)


def _read_csv(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.reader(file)
        places = _places(next(rows, []), path)
        suspicion: list[str] = []
        reason: list[str] = []
        with readable(path, "a table of predictions"):
            for row in rows:
                suspicion.append(row[places[0]])
                reason.append(row[places[1]])
                if len(suspicion) == _ROWS:
                    yield suspicion, reason
                    suspicion, reason = [], []
        if suspicion:
            yield suspicion, reason


def _read_parquet(path):
    _, parquet = _arrow()
    with readable(path, "a Parquet file"):
        file = parquet.ParquetFile(path)
    with file:
        _places(file.schema_arrow.names, path)
        for batch in file.iter_batches(batch_size=_ROWS, columns=["suspicion", "reason"]):
            yield tuple(column.to_pylist() for column in batch.columns)


def _places(names, path):
    missing = [name for name in ("suspicion", "reason") if name not in names]
    if missing:
        raise ValueError(f"{path} lacks the column {missing[0]}. Expected a table that `tfdefense predict` has written.")
    return [list(names).index(name) for name in ("suspicion", "reason")]


def _arrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ImportError(
            "Parquet files need pyarrow, which is not installed: pip install tfdefense[parquet]. Or take .csv."
        ) from None
    return pyarrow, pyarrow.parquet
