"""What users hand over as samples, as arrays."""

import numpy as np


def as_array(x):
    """An array; a data set of batches, which has no length and no values yet, is an error that says how to collect it."""
    if _is_data_set(x):
        raise ValueError(
            f"Expected an array of samples. Received a {type(x).__name__}. Collect what it gives, such as batches of pairs: "
            "`x, y = (np.concatenate(parts) for parts in zip(*dataset))`."
        )
    return np.asarray(x)


def samples(x):
    """Samples as an array: given as one, or by a data set of batches, whose labels are left out."""
    return _collected(x)[0] if _is_data_set(x) else np.asarray(x)


def pairs(x, y=None):
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
