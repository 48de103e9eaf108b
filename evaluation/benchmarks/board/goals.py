"""How far the best system of the board was to hold, and at what cost."""

from evaluation.papers.unmeasured import LATER
from evaluation.runner.goals import Goal


def _best(of):
    """The best system that looks around the sample, by the order of the board; None in results without any."""
    around = ("CPR", "CPR + confidence", "first-order radius")
    rows = [row for row in of.all(table="board", metric="median distance", norm="l2", system=around) if row.value is not None]
    return max(rows, key=lambda row: row.value, default=None)


def _of_best(metric, **fields):
    def value(of):
        row = _best(of)
        return None if row is None else of(table="board", system=row.system, base=row.base, metric=metric, **fields)

    return value


def _at_eight(system="no defense"):
    about = {"base": "adversarially trained", "metric": "robust accuracy", "norm": "linf", "epsilon": 8 / 255}
    return lambda of: of(table="board", system=system, **about)


def _gained(of):
    systems = dict.fromkeys(row.system for row in of.all(table="board", base="adversarially trained"))
    return max(_at_eight(system)(of) for system in systems if system != "no defense") - _at_eight()(of)


GOALS = {
    ("board", "mnist"): [
        Goal("best system around the sample: median l2 distance", _of_best("median distance", norm="l2"), least=3.1, remark=LATER),
        Goal("its robust accuracy at l2 3", _of_best("robust accuracy", norm="l2", epsilon=3), least=0.5, remark=LATER),
        Goal("its false-positive rate", _of_best("false-positive rate", perturbation=""), most=0.05, remark=LATER),
        Goal(
            "its rejections of random signs of 0.15",
            _of_best("false-positive rate", perturbation="random signs", epsilon=0.15),
            most=0.1,
            remark=LATER,
        ),
    ],
    ("board", "cifar10"): [
        Goal("no defense, adversarially trained: robust accuracy at linf 8/255", _at_eight(), least=0.35),
        Goal("best rejection: robust accuracy at linf 8/255 beyond that", _gained, least=0.05),
    ],
}
