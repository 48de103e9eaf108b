"""What users hand over as samples, as arrays."""

import numpy as np


def as_array(x):
    """An array; a data set of batches, which has no length and no values yet, is an error that says how to collect it."""
    if not hasattr(x, "__array__") and (hasattr(x, "element_spec") or type(x).__name__.endswith(("Dataset", "DataLoader"))):
        raise ValueError(
            f"Expected an array of samples. Received a {type(x).__name__}. Collect what it gives, such as batches of pairs: "
            "`x, y = (np.concatenate(parts) for parts in zip(*dataset))`."
        )
    return np.asarray(x)


def batch_hint(shape, expected):
    """What to type where an array is one sample of the shape expected, without the axis of the batch; else nothing."""
    one = len(shape) == len(expected) - 1 and all(e in (None, s) for e, s in zip(expected[1:], shape, strict=True))
    return " Add the batch axis: `x[None]`." if one else ""
