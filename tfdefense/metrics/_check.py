"""Checks that the metrics share, so that one mistake gives one message."""

import numpy as np

from tfdefense._untrusted import MOST_CLASSES


def labels(y, name="y", *, classes=None, rejection=False):
    """Whole numbers of shape (n,), from 0 (or from -1, where a sample may be rejected) to `classes - 1`."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:  # what keras.datasets.cifar10 gives
        y = y[:, 0]
    if y.ndim != 1:
        raise ValueError(
            f"`{name}` must have one class number a sample: shape (n,). Received shape {y.shape}. "
            f"For one-hot labels pass `{name}.argmax(axis=-1)`."
        )
    if y.size == 0:
        raise ValueError(f"`{name}` must have at least one sample. Received an empty array. Pass the samples to judge.")
    if y.dtype.kind not in "biuf" or (y.dtype.kind == "f" and not np.array_equal(y, np.round(y))):
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


def numbers(values, name, *, ndim=1):
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


def same_length(**arrays):
    """All arrays have one entry a sample."""
    lengths = {name: len(values) for name, values in arrays.items() if values is not None}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(
            f"{' and '.join(f'`{name}`' for name in lengths)} must have equal lengths. Received {got}. "
            "Pass the same samples, in the same order, to each."
        )


def limits(bounds):
    """Two finite increasing numbers."""
    pair = np.asarray(bounds, dtype="float64")
    if pair.shape != (2,) or not np.isfinite(pair).all() or pair[0] >= pair[1]:
        raise ValueError(
            f"`bounds` must be two increasing numbers. Received {bounds!r}. Pass the range of a pixel, such as (0, 1)."
        )
    return float(pair[0]), float(pair[1])


def inside(x, bounds, name="x"):
    """Samples (n, ...) as floats, all within the bounds."""
    x = np.asarray(x)
    if x.dtype.kind not in "biuf" or x.ndim < 2 or x.size == 0:
        raise ValueError(
            f"`{name}` must be numbers of shape (n, ...) with at least one sample. Received dtype {x.dtype}, "
            f"shape {x.shape}. For a single sample pass `{name}[None]`."
        )
    x = x if x.dtype.kind == "f" else x.astype("float32")
    low, high = limits(bounds)
    slack = 1e-5 * (high - low)  # float32 gives 1.0000001 for 1
    if not (x.min() >= low - slack and x.max() <= high + slack):  # written so that NaN fails
        raise ValueError(
            f"`{name}` must lie in ({low:g}, {high:g}). Received values in [{x.min():g}, {x.max():g}]. "
            "Rescale, or pass the right `bounds`."
        )
    return x
