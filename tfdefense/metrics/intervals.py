"""What a share of so many samples is worth."""

from __future__ import annotations

import math


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n samples.

    Example:

    >>> [round(end, 3) for end in share_interval(0.95, 100)]
    [0.888, 0.978]

    Args:
        share: From 0 to 1.
        n: Number of samples.
    """
    if not (0 <= share <= 1 and n >= 1):
        raise ValueError(f"Expected a share in (0, 1) of at least one sample. Received: {share} of {n}.")
    z = 1.959964
    middle, half = share + z**2 / (2 * n), z * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # The ends of none and of all are 0 and 1 but for rounding.
    low, high = (min(1.0, max(0.0, (middle + sign * half) / (1 + z**2 / n))) for sign in (-1, 1))
    return low, high
