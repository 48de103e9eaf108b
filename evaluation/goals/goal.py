"""What a goal is."""

from collections.abc import Callable
from typing import NamedTuple


class Goal(NamedTuple):
    """A goal, or a comparison where it has no limit.

    Args:
        what: What is measured.
        value: Gives it from the results, a dict from what a row is about to its number.
        least, most: The limit, if there is one.
        remark: Why it fell short, or what it means; shown where it is not met or has no limit.
        row: The row whose number of samples is to be shown too: of few samples a ratio says little.
    """

    what: str
    value: Callable
    least: float | None = None
    most: float | None = None
    remark: str = ""
    row: str = ""

    def measured(self, of):
        """The number, or None where a row that it follows from has none, or is not there in results of an older run."""
        try:
            return self.value(of)
        except (TypeError, KeyError, ValueError):
            return None

    def met(self, value):
        return value is not None and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def row(what, **limits):
    return Goal(what, lambda of: of[what], row=what, **limits)
