"""What `td.report` may cost, and that two of one seed are equal; what one minimum-norm run finds beside a sweep; how far the best
system of the board holds."""

from evaluation.benchmarks.report import DIFFER, REPORTED
from evaluation.papers.unmeasured import LATER
from evaluation.runner.goals import Goal


def _minutes(system, plan):
    return lambda of: of(metric="minutes", system=system, plan=plan)


def _no_farther(norm):
    return lambda of: min((row.value for row in of.all(metric="no farther", norm=norm)), default=None)


def _iterations(of):
    rows = of.all(metric="iterations", attack="minimum norm")
    each = [row.value / of(metric="iterations", attack="sweep", system=row.system, norm=row.norm) for row in rows]
    return max(each, default=None)


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
    ("nearest", "mnist"): [
        *(
            Goal(f"no farther than the sweep, {norm}: the model with least", _no_farther(norm), least=0.95)
            for norm in ("linf", "l2")
        ),
        Goal("iterations over the sweep's: the model with most", _iterations, most=0.2),
    ],
    ("report", "mnist"): [
        goal
        for name in REPORTED
        for goal in (
            Goal(f"{name}: minutes of a full report", _minutes(name, "full"), most=10),
            Goal(f"{name}: minutes of a quick report", _minutes(name, "quick"), most=2),
            Goal(f"{name}: {DIFFER}", lambda of, name=name: of(system=name, of=DIFFER), most=0),
        )
    ],
}
