"""What users hand over, checked in one place: each complaint is one sentence that says what was expected and what came.

Bounds are the range of the values of samples. `None` is no range, as of tabular or standardised features: any finite number is
valid. Inside it is (-inf, inf).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

from tfdefense._suggest import nearest
from tfdefense._untrusted import MOST_CLASSES

UNBOUNDED = (-math.inf, math.inf)

# How annotations call what users hand over.
PathLike: TypeAlias = str | os.PathLike[str]
Bounds: TypeAlias = tuple[float, float] | None
Search: TypeAlias = bool | Mapping[str, Sequence[float]] | None  # a grid of C and gamma; True is the usual one
Samples: TypeAlias = "ArrayLike | tf.data.Dataset | keras.utils.PyDataset"  # a data set gives batches
Model: TypeAlias = "keras.Model"
AnyModel: TypeAlias = Any  # a Keras model, a loaded SavedModel, a function from samples to scores, or a `View`
Tensor: TypeAlias = Any  # of Keras's backend, or symbolic


def as_array(x: ArrayLike) -> np.ndarray:
    """An array; a data set of batches, which has no length and no values yet, is an error that says how to collect it."""
    if _is_data_set(x):
        raise ValueError(
            f"Expected an array of samples. Received a {type(x).__name__}. Collect what it gives, such as batches of pairs: "
            "`x, y = (np.concatenate(parts) for parts in zip(*dataset))`."
        )
    return np.asarray(x)


def samples(x: Samples) -> np.ndarray:
    """Samples as an array: given as one, or by a data set of batches, whose labels are left out."""
    return _collected(x)[0] if _is_data_set(x) else np.asarray(x)


def pairs(x: Samples, y: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Samples and their labels as arrays, given as two or by one data set of batches (samples, labels)."""
    if _is_data_set(x):
        x, labels = _collected(x)
        if labels is not None and y is not None:
            raise ValueError("Expected labels once. Received them in the data set and as `y`: leave `y` out.")
        y = labels if y is None else y
    if y is None:
        raise ValueError("Expected labels. Received samples alone: pass `y`, or a data set of batches (samples, labels).")
    return np.asarray(x), np.asarray(y)


def _is_data_set(x):
    """A `tf.data.Dataset`, a `keras.utils.PyDataset` and the like; not what is called so and is an array all the same."""
    kinds = {kind.__name__ for kind in type(x).__mro__}
    known = hasattr(x, "element_spec") or "PyDataset" in kinds or type(x).__name__.endswith(("Dataset", "DataLoader"))
    return known and not hasattr(x, "__array__")


def _collected(dataset):
    """All samples of a data set of batches, and the labels beside them or None."""
    found = [_parts(batch, dataset) for batch in _batches(dataset)]
    if not found:
        raise ValueError(f"Expected at least one batch. Received an empty {type(dataset).__name__}.")
    x, *y = (np.concatenate(part) for part in zip(*found, strict=True))
    return x, y[0] if y else None


def _batches(dataset):
    """Its batches, in order, where there is an end to them."""
    name = type(dataset).__name__
    # -1 is what TensorFlow calls infinite.
    endless = int(dataset.cardinality()) == -1 if hasattr(dataset, "cardinality") else getattr(dataset, "num_batches", 0) is None
    if endless:
        raise ValueError(f"Expected a data set that ends. Received an infinite {name}: cut it, such as by `dataset.take(100)`.")
    if hasattr(dataset, "num_batches"):  # A PyDataset is read by index: it has no iterator that ends.
        return (dataset[i] for i in range(dataset.num_batches))
    if not hasattr(dataset, "__iter__"):
        raise ValueError(f"Expected a data set of batches. Received a {name}, which can't be iterated over: pass arrays.")
    return iter(dataset)


def _parts(batch, dataset):
    """The samples of a batch, or its samples and labels, as arrays."""
    parts = batch if isinstance(batch, tuple | list) else (batch,)
    if isinstance(batch, dict) or not 1 <= len(parts) <= 2:
        gives = f"a dict of {', '.join(map(repr, batch))}" if isinstance(batch, dict) else f"{len(parts)} parts"
        raise ValueError(
            f"Expected batches of samples or of pairs (samples, labels). Received a {type(dataset).__name__} that gives {gives}. "
            "Map it to pairs: `dataset.map(lambda ...: (samples, labels))`."
        )
    arrays = [np.asarray(part) for part in parts]
    if any(array.ndim == 0 or array.dtype == object for array in arrays) or len({len(array) for array in arrays}) > 1:
        raise ValueError(
            f"Expected batches, one label for each sample. Received a {type(dataset).__name__} that gives parts of shapes "
            f"{', '.join(str(array.shape) for array in arrays)}. Batch single samples first: `dataset.batch(256)`."
        )
    return arrays


def check_shape(x, shape):
    """Complains of what are not numbers, one or more samples of the shape expected, with the batch's axis; None is any."""
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"Expected at least one sample. Received an array of shape {x.shape}.")
    if shape is not None and (x.ndim != len(shape) or any(e not in (None, r) for e, r in zip(shape[1:], x.shape[1:], strict=True))):
        raise ValueError(f"Expected samples of shape {tuple(shape)}. Received {x.shape}.{batch_hint(x.shape, shape)}")
    if x.dtype.kind not in "fiub":
        raise ValueError(f"Expected numbers. Received an array of dtype {x.dtype}.")


def batch_hint(shape, expected):
    """What to type where an array is one sample of the shape expected, without the axis of the batch; else nothing."""
    one = len(shape) == len(expected) - 1 and all(e in (None, s) for e, s in zip(expected[1:], shape, strict=True))
    return " Add the batch axis: `x[None]`." if one else ""


def check_labels(
    y: ArrayLike, name: str = "y", *, samples: int | None = None, classes: int | None = None, rejection: bool = False
) -> np.ndarray:
    """Whole numbers, one for each of the `samples`, from 0 (or from -1, where a sample may be rejected) to `classes - 1`."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:  # what keras.datasets.cifar10 gives
        y = y[:, 0]
    if y.ndim != 1 or (samples is not None and len(y) != samples):
        hint = f" For one-hot labels pass `{name}.argmax(-1)`." if y.ndim == 2 else ""
        wanted = "n" if samples is None else samples
        raise ValueError(f"`{name}` must have one class a sample: shape ({wanted},). Received shape {y.shape}.{hint}")
    if y.size == 0:
        raise ValueError(f"`{name}` must have at least one sample. Received an empty array. Pass the samples to judge.")
    if y.dtype.kind not in "biuf" or not np.isfinite(y).all() or not np.array_equal(y, np.round(y)):
        raise ValueError(
            f"`{name}` must hold whole class numbers. Received dtype {y.dtype} with values such as {y[:3].tolist()}. "
            "Map class names or probabilities to numbers 0, 1, 2, ... first."
        )
    # Compared as they came: in int64 the largest of uint64 is -1, which would mean rejected.
    lowest, top = (-1 if rejection else 0), (MOST_CLASSES if classes is None else classes) - 1
    if y.min() < lowest or y.max() > top:
        raise ValueError(
            f"`{name}` must lie in {lowest} to {top}. Received values in [{y.min()}, {y.max()}]. "
            "Leave out the samples without a class, or number the classes from 0."
        )
    return y.astype("int64")


def check_numbers(values: ArrayLike, name: str, *, ndim: int = 1) -> np.ndarray:
    """Floats without NaN. Infinities pass: a sample that no detector can judge has suspicion +inf."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf" or values.ndim != ndim:
        raise ValueError(
            f"`{name}` must be numbers of {ndim} dimension(s). Received dtype {values.dtype}, shape {values.shape}. "
            f"Pass one array with {'a number for each sample' if ndim == 1 else 'these dimensions'}."
        )
    if values.size == 0:
        raise ValueError(f"`{name}` must have at least one value. Received an empty array. Is a filter too strict?")
    values = values.astype("float64")
    bad = int(np.isnan(values).sum())
    if bad:
        raise ValueError(
            f"`{name}` must not hold NaN. Received {bad} NaN of {values.size} values. "
            "Find the samples with `numpy.isnan`; a defended model gives +inf where it cannot judge."
        )
    return values


def check_same_length(**arrays):
    """All arrays have one entry a sample."""
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in lengths)} must have equal lengths. Received {got}. "
            "Pass the same samples, in the same order, to each."
        )


def check_number(name, value, low=0.0, whole=False, above=False):
    """One clear sentence about a number that is none, or too small."""
    kind = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    right = isinstance(value, kind) and not isinstance(value, bool) and np.isfinite(value)
    if not right or value < low or (above and value == low):
        wanted = f"{'a whole number' if whole else 'a number'} {'above' if above else 'of at least'} {low:g}"
        raise ValueError(f"`{name}` must be {wanted}. Received: {value!r}.")


def checked_bounds(bounds: Bounds) -> tuple[float, float]:
    """`(low, high)` as floats, or one clear sentence."""
    if bounds is None:
        return UNBOUNDED
    try:
        low, high = (float(bound) for bound in bounds)
        right = (low, high) == UNBOUNDED or (math.isfinite(low) and math.isfinite(high) and low < high)
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(
            f"`bounds` must be two finite numbers (low, high) with low < high, or None where any finite number is valid. "
            f"Received: {bounds}."
        )
    return low, high


def is_bounded(bounds: tuple[float, float]) -> bool:
    return tuple(bounds) != UNBOUNDED


def range_of(bounds: tuple[float, float], who: str) -> tuple[float, float]:
    """`(low, high)`, or an error that says who needs a range."""
    if not is_bounded(bounds):
        raise ValueError(
            f"{who} needs the range of the values, and this model has none (`bounds=None`). Pass the range that samples may "
            "have, such as `bounds=(x.min(), x.max())`."
        )
    return bounds


def middle(bounds: tuple[float, float]) -> float:
    """A value inside."""
    low, high = bounds
    return (low + high) / 2 if is_bounded(bounds) else 0.0


def finite_bounds(bounds: Bounds) -> tuple[float, float]:
    """`(low, high)` where there must be a range, such as that of a pixel."""
    return range_of(checked_bounds(bounds), "This")


def check_inside(x: ArrayLike, bounds: Bounds, name: str = "x") -> np.ndarray:
    """Samples (n, ...) as floats, all within the bounds."""
    x = np.asarray(x)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"`{name}` must be numbers of shape (n, ...) with at least one sample. Received dtype {x.dtype}, "
            f"shape {x.shape}. For a single sample pass `{name}[None]`."
        )
    x = x if x.dtype.kind == "f" else x.astype("float32")
    low, high = finite_bounds(bounds)
    slack = 1e-5 * (high - low)  # float32 gives 1.0000001 for 1
    if not (x.min() >= low - slack and x.max() <= high + slack):  # written so that NaN fails
        raise ValueError(
            f"`{name}` must lie in ({low:g}, {high:g}). Received values in [{x.min():g}, {x.max():g}]. "
            "Rescale, or pass the right `bounds`."
        )
    return x


def checked_names(names: Sequence[str] | None, count: int | None = None) -> tuple[str, ...] | None:
    """Names as a tuple of strings, one for each of `count` classes, or one clear sentence. None stays None."""
    if names is None:
        return None
    found = () if isinstance(names, str) else tuple(names)
    if not found or not all(isinstance(name, str) and name for name in found):
        raise ValueError(f'Class names must be strings, one for each class, such as ["cat", "dog"]. Received: {names!r}.')
    # Those of numpy would not survive a file.
    found = tuple(map(str, found))
    twice = next((name for number, name in enumerate(found) if name in found[:number]), None)
    if twice is not None:
        raise ValueError(f"Expected each class name once. Received {twice!r} more than once.")
    if count is not None and len(found) != count:
        raise ValueError(f"Expected one name for each of {count} classes. Received {len(found)}: {listed(found)}.")
    return found


def are_numbers(names: Sequence[str]) -> bool:
    """Whether classes are called 0, 1, ... in this order, as those without a name are."""
    return tuple(names) == tuple(map(str, range(len(names))))


def numbered(y: np.ndarray, own: Sequence[str], names: Sequence[str], where: str) -> np.ndarray:
    """Classes `y`, numbered by the names `own`, numbered by the names of a model. Not all of these need to be there."""
    unknown = next((name for name in own if name not in names), None)
    if unknown is not None:
        near = nearest(unknown, names, cutoff=0.4)
        raise ValueError(
            f"{where} has the class {unknown!r}, which is none of the {len(names)} classes of the model: {listed(names)}."
            + (f" Nearest: {near[0]!r}." if near else "")
            + " Rename it, or give the names by which the model's scores are ordered: `classes=[...]`, --classes a,b,c."
        )
    return np.array([names.index(name) for name in own], "int32")[y]


def listed(names: Sequence[str], most: int = 10) -> str:
    """The first of some names, for people."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
