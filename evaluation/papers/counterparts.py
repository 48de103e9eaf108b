"""Where each table and figure of a paper has its counterpart here, how sure its numbers are, or what measuring it would take."""

from collections.abc import Callable
from typing import NamedTuple

from evaluation.papers.intervals import area, wilson
from evaluation.papers.unmeasured import beside, unmeasured
from evaluation.runner.markdown import markdown
from tfdefense import _cache

# What is a share of n samples.
SHARES = {"accuracy", "robust accuracy", "error rate", "rejection rate", "false-positive rate", "detection accuracy"}
SHARES |= {"F->T", "T->F", "T->T rejected"}


class Counterpart(NamedTuple):
    """A table or figure of the paper.

    Args:
        paper: Its name there.
        what: What it is of.
        rows: Gives the rows from the `Results`; None: a row of this kind cannot be made here, `reason` says why.
        cost: By data set the command that measures it and its CPU hours, an estimate; of what cannot be made the hours alone.
        reason: Why there are none.
        protocol: Whose results on the same set have the rows, if not those of the page.
    """

    paper: str
    what: str
    rows: Callable | None = None
    cost: dict | float = 0.0
    reason: str = ""
    protocol: str = ""


def interval(row):
    """The 95 % interval of a row, or None where it is no share and no area, or its n is not known."""
    if row.interval or row.value is None or not row.n:
        return row.interval
    if row.metric == "AUROC":
        return area(row.value, row.n)
    return wilson(row.value, row.n) if row.metric in SHARES else None


def _state(part, dataset):
    """In place of numbers that nobody has measured."""
    if part.rows:
        return unmeasured(*part.cost[dataset]) if dataset in part.cost else "not on this set"
    return f"Not measured: {part.reason}; about {part.cost:g} hours of CPU time" if part.cost else part.reason


def _repeated(found, rows):
    """Over how many trainings or splits each number is."""
    own = {row.seed for row in rows if row.seed is not None}
    told = [found.settings.get(name) for name in ("seeds", "splits")]
    return max([1, len(own), *(count for count in told if isinstance(count, int))])


def table(parts, found):
    """A line for each table and figure: how many numbers, of how many samples and networks, how wide the widest interval is."""
    lines = []
    for part in parts:
        source = beside(part.protocol, found) if part.protocol else found
        rows = [row for row in part.rows(source) if row.value is not None] if part.rows and source else []
        if not rows:
            lines.append((part.paper, part.what, "", "", "", "", _state(part, found.about["dataset"])))
            continue
        code = source.about.get("code")
        measured = "measured" if code and not _cache.changed(code) else "measured, by older code"
        counts = sorted({row.n for row in rows if row.n})
        widths = [ends[1] - ends[0] for row in rows if (ends := interval(row))]
        samples = "" if not counts else f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
        widest = f"± {max(widths) / 2:.3f}" if widths else ""
        lines.append((part.paper, part.what, len(rows), samples, _repeated(source, rows), widest, measured))
    head = ("in the paper", "what", "numbers", "n", "networks or splits", "95 % interval at its widest", "state")
    return markdown(head, lines)
