"""The range of the values of samples, checked in one place.

`None` is no range, as of tabular or standardised features: any finite number is valid. Inside it is (-inf, inf).
"""

import math

UNBOUNDED = (-math.inf, math.inf)


def checked_bounds(bounds):
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


def is_bounded(bounds):
    return tuple(bounds) != UNBOUNDED


def range_of(bounds, who):
    """`(low, high)`, or an error that says who needs a range."""
    if not is_bounded(bounds):
        raise ValueError(
            f"{who} needs the range of the values, and this model has none (`bounds=None`). Pass the range that samples may "
            "have, such as `bounds=(x.min(), x.max())`."
        )
    return bounds


def middle(bounds):
    """A value inside."""
    low, high = bounds
    return (low + high) / 2 if is_bounded(bounds) else 0.0
