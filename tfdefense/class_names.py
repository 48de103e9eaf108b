"""Names of classes: checked in one place, and data numbered by those of a model."""

import numpy as np

from tfdefense._suggest import nearest


def checked_names(names, count=None):
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


def are_numbers(names):
    """Whether classes are called 0, 1, ... in this order, as those without a name are."""
    return tuple(names) == tuple(map(str, range(len(names))))


def numbered(y, own, names, where):
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


def listed(names, most=10):
    """The first of some names, for people."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
