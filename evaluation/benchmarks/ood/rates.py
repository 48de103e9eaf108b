"""AUROC and FPR at 95 % TPR, with intervals over draws of the samples. Known samples are the positives, as in OpenOOD."""

import numpy as np

DRAWS, TPR = 1000, 0.95


class Rates:
    """Of known samples against several OOD sets; a set's numbers, or their mean over the sets.

    The draws, with replacement, are the same for all systems: these can be compared in pairs.

    Args:
        known: Suspicion of known samples.
        ood: Suspicion of the images of each OOD set, by name.
    """

    def __init__(self, known, ood, draws=DRAWS):
        known = np.sort(_numbers(known))
        count = len(known)
        # How often each known sample is in a draw, summed up in the order of their scores. The first draw has each once.
        rng = np.random.default_rng(0)
        self.sums = np.cumsum(np.concatenate([np.ones((1, count), int), _counts(rng, draws, count)]), 1)
        self.sums = np.concatenate([np.zeros((draws + 1, 1), int), self.sums], 1)
        # So many known samples must be accepted; the threshold is the score of the last of them.
        needed = int(np.ceil(TPR * count - 1e-9))
        threshold = known[np.argmax(self.sums[:, 1:] >= needed, 1)]
        self.auroc, self.fpr = {}, {}
        for number, (name, values) in enumerate(ood.items()):
            values = _numbers(values)
            times = np.concatenate(
                [np.ones((1, len(values)), int), _counts(np.random.default_rng([1, number]), draws, len(values))]
            )
            beaten = sum(self.sums[:, np.searchsorted(known, values, side=side)] for side in ("left", "right"))
            self.auroc[name] = (times * beaten).sum(1) / (2 * count * len(values))
            self.fpr[name] = (times * (values <= threshold[:, None])).sum(1) / len(values)

    def of(self, metric, names):
        """The mean over some of the sets, and between what 95 of 100 draws lie."""
        drawn = np.mean([getattr(self, metric)[name] for name in names], 0)
        return float(drawn[0]), tuple(float(end) for end in np.quantile(drawn[1:], (0.025, 0.975)))


def _numbers(suspicion):
    """What is no number is rejected."""
    return np.nan_to_num(np.asarray(suspicion, "float64"), nan=np.inf, posinf=np.inf, neginf=-np.inf)


def _counts(rng, draws, number):
    """How often each of so many samples is in each draw of as many."""
    return rng.multinomial(number, np.full(number, 1 / number), draws)
