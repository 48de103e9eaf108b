"""What RBF-SVMs are told, checked."""

import numpy as np

from tfdefense.layers import svm_fits

GRID = {"C": (0.1, 1.0, 10.0), "gamma": ("0.25*scale", "scale", "4*scale")}


def size(count):
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def check_count(name, value, low):
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < low:
        raise ValueError(f"`{name}` must be a whole number of at least {low}. Received: {value!r}.")


def _is_positive(value):
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool) and 0 < value < np.inf


def check_C(C):
    if not _is_positive(C):
        raise ValueError(f"`C` must be a number above 0, such as 1.0. Received: {C!r}.")


def check_gamma(gamma):
    if isinstance(gamma, str):
        svm_fits.scale_factor(gamma)
    elif not _is_positive(gamma):
        raise ValueError(f"`gamma` must be a number above 0, 'scale', or a multiple such as '2*scale'. Received: {gamma!r}.")


def checked_grid(search):
    if search is None or search is False:
        return None
    if search is True:
        return {name: list(values) for name, values in GRID.items()}
    if not isinstance(search, dict) or set(search) - {"C", "gamma"} or not all(len(values) for values in search.values()):
        raise ValueError(f'`search` must be True or a dict such as {{"C": [1, 10], "gamma": ["scale"]}}. Received: {search!r}.')
    grid = {"C": list(search.get("C", GRID["C"])), "gamma": list(search.get("gamma", GRID["gamma"]))}
    for C in grid["C"]:
        check_C(C)
    for gamma in grid["gamma"]:
        check_gamma(gamma)
    return grid
