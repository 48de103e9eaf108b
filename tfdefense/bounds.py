"""The range of pixel values, checked in one place."""

import math


def checked_bounds(bounds):
    """`(low, high)` as floats, or one clear sentence."""
    try:
        low, high = (float(bound) for bound in bounds)
        right = math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(f"`bounds` must be two finite numbers (low, high) with low < high. Received: {bounds}.")
    return low, high
