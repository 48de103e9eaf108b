"""What a share of so many samples is worth."""

import math

Z = 1.959964  # of 95 %


def wilson(share, n):
    """The 95 % interval of a share of n samples (Wilson, 1927), or None where there are none: as the field `interval` of a row."""
    if not n or share is None:
        return None
    middle, spread = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return tuple(round(max(0.0, (middle + sign * spread) / (1 + Z**2 / n)), 6) for sign in (-1, 1))
