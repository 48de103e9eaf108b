"""The numbers that Metzen et al. (2017) give in words, to stand beside ours; their figures hold the others, as drawings alone."""

CLEAN_ACCURACY = {"cifar10": 0.913}
# The least detectability of every adversary that takes accuracy under the key.
LEAST = {"cifar10": {0.3: 0.80, 0.1: 0.90}}
# Ten-class ImageNet: 85 % or more but for the iterative method at the smallest l2 size, where the detector is at chance.
IMAGENET, IMAGENET_SMALLEST_L2 = 0.85, 0.5
# The same attack at its smallest size, by a detector fitted at its largest.
IMAGENET_LARGEST_TO_SMALLEST_L2 = 0.78
DYNAMIC = {"cifar10": 0.70}
# "Close to chance level" at sigma 0.3 and 0.4, where the classifier is right in less than 30 %.
STATIC = {"cifar10": {0.3: 0.5, 0.4: 0.5}}


def detectability(dataset, kind, size, smallest):
    """A number of figure 6, or None."""
    if dataset != "imagenette_small":
        return None
    return IMAGENET_SMALLEST_L2 if kind == "iterative l2" and size == smallest else IMAGENET


def sized_transfer(dataset, kind, fitted, tested, sizes):
    """A number of figures 3 and 7, or None."""
    known = dataset == "imagenette_small" and kind == "iterative l2" and (fitted, tested) == (sizes[-1], sizes[0])
    return IMAGENET_LARGEST_TO_SMALLEST_L2 if known else None


def under_sigma(dataset, detector, sigma):
    """A number of figure 5, which has tenths of sigma, or None; for the dynamic detector the least over all of them."""
    if sigma is not None and round(10 * sigma, 6) % 1:
        return None
    if detector == "dynamic":
        return DYNAMIC.get(dataset)
    return STATIC.get(dataset, {}).get(sigma) if detector == "static" else None


def bound(number):
    """What the paper says of such a number: most are limits."""
    if number is None:
        return ""
    return "paper: close to chance" if number == 0.5 else "paper: at least"
