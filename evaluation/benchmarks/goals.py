"""What `td.report` may cost, and that two of one seed are equal; what one minimum-norm run finds beside a sweep."""

from evaluation.benchmarks.report import DIFFER, REPORTED
from evaluation.runner.goals import Goal


def _minutes(system, plan):
    return lambda of: of(metric="minutes", system=system, plan=plan)


def _no_farther(norm):
    return lambda of: min((row.value for row in of.all(metric="no farther", norm=norm)), default=None)


def _iterations(of):
    rows = of.all(metric="iterations", attack="minimum norm")
    each = [row.value / of(metric="iterations", attack="sweep", system=row.system, norm=row.norm) for row in rows]
    return max(each, default=None)


GOALS = {
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
