"""What `td.report` may cost, and that two of one seed are equal."""

from evaluation.benchmarks.report import DIFFER, REPORTED
from evaluation.runner.goals import Goal


def _minutes(system, plan):
    return lambda of: of(metric="minutes", system=system, plan=plan)


GOALS = {
    ("report", "mnist"): [
        goal
        for name in REPORTED
        for goal in (
            Goal(f"{name}: minutes of a full report", _minutes(name, "full"), most=10),
            Goal(f"{name}: minutes of a quick report", _minutes(name, "quick"), most=2),
            Goal(f"{name}: {DIFFER}", lambda of, name=name: of(system=name, of=DIFFER), most=0),
        )
    ]
}
