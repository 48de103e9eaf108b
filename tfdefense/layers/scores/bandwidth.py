"""The bandwidth of a kernel density, where nobody gives one."""

import numpy as np

# Pairs are quadratic in the points: of so many it takes about a second.
POINTS = 2_000
# Around the median distance. High dimensions and the nearest of many points ask for much less than that.
FACTORS = 2.0 ** np.arange(-8, 2.25, 0.25)


def likeliest_sigma(features, labels, seed=0):
    """The bandwidth under which a training point is likeliest among the others of its class: leave-one-out likelihood.

    Of more than `POINTS` points an equal share of each class is drawn. Features that do not vary have no volume and are not
    counted. None where there is no distance to go by: all points of a class are one, or each class has one point.

    Reference: Duin, 1976, On the choice of smoothing parameters for Parzen estimators of probability density functions.
    """
    chosen = equal_shares(labels, POINTS, seed)
    features, labels = features[chosen].astype("float64"), labels[chosen]
    squares = [_squares(features[labels == label]) for label in np.unique(labels)]
    apart = np.concatenate([square[square < np.inf] for square in squares])
    apart = apart[apart > 0]
    if apart.size == 0:
        return None
    width = np.count_nonzero(features.std(axis=0) > 0)
    sigmas = FACTORS * np.sqrt(np.median(apart))
    likely = [sum(_log_likelihood(square, sigma, width) for square in squares if len(square) > 1) for sigma in sigmas]
    return float(sigmas[int(np.argmax(likely))])


def _squares(points):
    """Squared distances of all pairs, infinite from a point to itself."""
    points = points - points.mean(axis=0)
    norms = np.square(points).sum(axis=1)
    found = np.maximum(norms[:, None] + norms - 2 * points @ points.T, 0.0)
    # What is left of the difference of two large numbers is no distance.
    found[found < 1e-12 * norms.max(initial=0.0)] = 0.0
    np.fill_diagonal(found, np.inf)
    return found


def _log_likelihood(squares, sigma, width):
    """The sum of log densities of points among the others, the volume of the kernel included: only so do bandwidths compare."""
    terms = -squares / sigma**2
    best = terms.max(axis=1, keepdims=True)
    densities = np.log(np.exp(terms - best).sum(axis=1)) + best[:, 0] - np.log(len(squares) - 1)
    return float(np.sum(densities - width * np.log(sigma * np.sqrt(np.pi))))


def equal_shares(labels, room, seed):
    """Indices of the points that there is room for: all, or for each class an equal share of the room."""
    if len(labels) <= room:
        return np.arange(len(labels))
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    kept: list[np.ndarray] = []
    # What a small class leaves of its share goes to the larger ones.
    for turn, position in enumerate(np.argsort(sizes, kind="stable")):
        share = (room - sum(map(len, kept))) // (len(classes) - turn)
        kept.append(rng.permutation(np.flatnonzero(labels == classes[position]))[:share])
    return np.sort(np.concatenate(kept))
