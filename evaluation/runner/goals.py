"""What each protocol was meant to show, looked up in its results: a page of numbers does not say which of them fell short."""

from collections.abc import Callable
from typing import NamedTuple


class Goal(NamedTuple):
    """A goal, or a comparison where it has no limit.

    Args:
        what: What is measured.
        value: Gives it from the `Results`.
        least, most: The limit, if there is one.
        remark: Why it fell short, or what it means; shown where it is not met or has no limit.
    """

    what: str
    value: Callable
    least: float | None = None
    most: float | None = None
    remark: str = ""

    def measured(self, results):
        """The number, or None where a row that it follows from is not there or has no number."""
        try:
            return self.value(results)
        except (TypeError, KeyError, ValueError):
            return None

    def met(self, value):
        return value is not None and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def table(goals, results):
    """The goals as lines of Markdown."""
    lines = ["| goal | measured | limit | met | why |", "| --- | --- | --- | --- | --- |"]
    for goal in goals:
        value = goal.measured(results)
        limits = [f"{sign} {limit:g}" for sign, limit in (("at least", goal.least), ("at most", goal.most)) if limit is not None]
        met = ("yes" if goal.met(value) else "**no**") if limits else "-"
        if value is None:
            met = "not measured"
        remark = goal.remark if not (limits and goal.met(value)) else ""
        shown = "-" if value is None else f"{value:.4g}"
        lines.append(f"| {goal.what} | {shown} | {' and '.join(limits) or '-'} | {met} | {remark or '-'} |")
    return "\n".join(lines)
