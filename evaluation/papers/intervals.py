"""What a share of so many samples is worth."""

import math

Z = 1.959964  # of 95 %


def wilson(share, n):
    """The 95 % interval of a share of n samples, or None where there are none: as the field `interval` of a row."""
    from tfdefense.metrics import share_interval

    return tuple(round(end, 6) for end in share_interval(share, n)) if n and share is not None else None


def area(value, n):
    """The 95 % interval of an area under a ROC curve of n clean and n attacked samples (Hanley and McNeil, 1982)."""
    one, other = value / (2 - value), 2 * value**2 / (1 + value)
    variance = (value * (1 - value) + (n - 1) * (one + other - 2 * value**2)) / n**2
    half = Z * math.sqrt(max(variance, 0.0))
    return max(0.0, value - half), min(1.0, value + half)


def balanced(accuracy, false_positives, clean, attacked):
    """The 95 % interval of a detection accuracy: the mean of the share of clean samples kept and of attacked ones caught.

    Both shares have Wilson's interval, and their mean what follows from the two (Zou and Donner, 2008).

    Args:
        clean, attacked: How many samples each of the shares is of.
    """
    if accuracy is None or false_positives is None or not clean or not attacked:
        return None
    shares = 1 - false_positives, min(1.0, max(0.0, 2 * accuracy - (1 - false_positives)))
    ends = [wilson(share, n) for share, n in zip(shares, (clean, attacked), strict=True)]
    away = (math.hypot(*((share - end[side]) / 2 for share, end in zip(shares, ends, strict=True))) for side in (0, 1))
    return tuple(round(accuracy + sign * one, 6) for sign, one in zip((-1, 1), away, strict=True))
