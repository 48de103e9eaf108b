"""The numbers that Metzen et al. (2017) give in words, to stand beside ours; their figures hold the others, as drawings alone."""

CLEAN_ACCURACY = {"cifar10": 0.913}
# The least detectability of every adversary that takes accuracy under the key.
LEAST = {"cifar10": {0.3: 0.80, 0.1: 0.90}}
DYNAMIC = 0.70
# "Close to chance level" at sigma 0.3 and 0.4, where the classifier is right in less than 30 %.
STATIC = {0.3: 0.5, 0.4: 0.5}


def detectability(dataset, kind, size, smallest):
    """A number of figure 6: 85 % or more, but for the iterative method at the smallest l2 size, where the detector is at chance."""
    if dataset != "imagenette_small":
        return None
    return 0.5 if kind == "iterative l2" and size == smallest else 0.85


def sized_transfer(dataset, kind, fitted, tested, sizes):
    """A number of figure 7: of the same attack at its smallest size, by a detector fitted at its largest."""
    known = dataset == "imagenette_small" and kind == "iterative l2" and (fitted, tested) == (sizes[-1], sizes[0])
    return 0.78 if known else None


def under_sigma(dataset, detector, sigma):
    """A number of figure 5, which has tenths of sigma, or None; for the dynamic detector the least over all of them."""
    if dataset != "cifar10" or sigma is not None and round(10 * sigma, 6) % 1:
        return None
    return DYNAMIC if detector == "dynamic" else STATIC.get(sigma) if detector == "static" else None


def bound(number):
    """What the paper says of such a number: most are limits."""
    if number is None:
        return ""
    return "paper: close to chance" if number == 0.5 else "paper: at least"
