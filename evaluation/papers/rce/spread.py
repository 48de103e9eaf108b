"""What a number over samples and networks is worth: the mean over networks, its deviation, and an interval over the samples.

Samples are drawn anew with replacement, the same for all networks: what makes one hard makes it hard for all. So the interval says
what other samples would give, and the deviation what other trainings would.
"""

import functools

import numpy as np

DRAWS, SHARE = 1000, 0.95


def over(networks, samples, statistic):
    """Fields of a row: `value`, the mean over the networks; `interval`, `deviation`, and `n`, the samples of all of them.

    Args:
        networks: For each the numbers of its samples, of so many `samples`, and arrays with a value for each. One without samples
            is left out.
        statistic: Gives from these arrays a function of weights of the samples, a line for each draw.
    """
    networks = [(np.array(rows, int), *map(np.asarray, arrays)) for rows, *arrays in networks if len(rows)]
    if not networks:
        return {"value": None, "n": 0}
    functions = [(rows, statistic(*arrays)) for rows, *arrays in networks]
    values = [float(of(np.ones((1, len(rows))))[0]) for rows, of in functions]
    found = {"value": float(np.mean(values)), "n": sum(len(rows) for rows, _ in functions)}
    if len(values) > 1:
        found["deviation"] = float(np.std(values, ddof=1))
    if found["n"] > 1:
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = np.stack([of(_weights(samples)[:, rows]) for rows, of in functions])
        # A draw may hold no sample of a network that has few.
        means = np.nanmean(drawn[:, np.isfinite(drawn).any(0)], 0)
        found["interval"] = tuple(float(each) for each in np.quantile(means, [(1 - SHARE) / 2, (1 + SHARE) / 2]))
    return found


@functools.cache
def _weights(samples):
    """How often each sample is drawn, a line for each draw."""
    return np.random.default_rng(0).multinomial(samples, np.full(samples, 1 / samples), DRAWS).astype("float64")


def auc(negative, positive):
    """The area under the ROC curve of pairs: each sample weighs as much on both sides."""
    wins = (negative[:, None] < positive) + 0.5 * (negative[:, None] == positive)
    return lambda weights: ((weights @ wins) * weights).sum(1) / weights.sum(1) ** 2


def mean(values):
    return lambda weights: weights @ values.astype("float64") / weights.sum(1)


def ratio(above, below):
    """The mean of the first over that of the second."""
    return lambda weights: (weights @ above) / (weights @ below)
