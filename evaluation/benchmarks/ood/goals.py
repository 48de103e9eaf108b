"""What the OOD board is to show: a network that is worth it, at its price; and what attacks leave."""

from evaluation.benchmarks.ood.measure import NEAR
from evaluation.benchmarks.ood.search import ACCEPT, REJECT
from evaluation.runner.goals import Goal


def _best(of, **fields):
    """The best system's."""
    return max((row.value for row in of.all(metric="AUROC", ood=NEAR, **fields)), default=None)


def _attacked(attack, place):
    """The best system's at one of the sizes, the smallest first."""

    def value(of):
        sizes = sorted({row.epsilon for row in of.all(table="ood.attacked")} - {0.0})
        return _best(of, table="ood.attacked", attack=attack, epsilon=sizes[place])

    return value


def _price(of):
    return of(table="ood.cost", metric="CPU seconds") / 3600


_GOALS = [
    Goal("hours of CPU time", _price, most=2),
    Goal("AUROC, near: the best system", lambda of: _best(of, table="ood")),
    Goal("the same, OOD images attacked, smaller size: the best system then", _attacked(ACCEPT, 0)),
    Goal("the same, larger size", _attacked(ACCEPT, 1)),
    Goal("the same, known samples attacked, smaller size", _attacked(REJECT, 0)),
]


def _accuracy(of):
    return of(table="ood", metric="accuracy", system="no defense")


GOALS = {
    ("ood", dataset): [Goal("accuracy of the network", _accuracy, least=least), *_GOALS]
    for dataset, least in {"cifar10": 0.9, "imagenette_small": 0.93}.items()
}
