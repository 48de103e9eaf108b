"""What `td.report` may cost."""

from evaluation.benchmarks.report import REPORTED
from evaluation.runner.goals.goal import Goal

GOALS = {
    ("report", "mnist"): [
        goal
        for name in REPORTED
        for goal in (
            Goal(f"minutes, {name}, full", lambda of, name=name: of[f"{name}, full, minutes"], most=15),
            Goal(f"minutes, {name}, quick", lambda of, name=name: of[f"{name}, quick, minutes"], most=2),
            Goal(
                f"parts of two quick reports that differ, {name}",
                lambda of, name=name: of[f"{name}, parts of two quick reports that differ"],
                most=0,
            ),
        )
    ]
}
