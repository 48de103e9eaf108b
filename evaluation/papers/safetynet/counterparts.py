"""Where each table and figure of Lu et al. has its counterpart here, how sure its numbers are, or what measuring it would take."""

import math
from collections.abc import Callable
from typing import NamedTuple

from evaluation.runner.markdown import markdown
from tfdefense import _cache
from tfdefense.metrics import share_interval

# What is a share of n samples.
SHARES = {"accuracy", "robust accuracy", "error rate", "rejection rate", "false-positive rate", "detection accuracy"}
SHARES |= {"F->T", "T->F", "T->T rejected"}


class Counterpart(NamedTuple):
    """A table or figure of the paper.

    Args:
        paper: Its name there.
        what: What it is of.
        rows: Gives the rows from the `Results`; None: a row of this kind cannot be made here, `reason` says why.
        hours: CPU hours that its numbers take on two cores, an estimate, by data set or for all.
        reason: Why there are none.
    """

    paper: str
    what: str
    rows: Callable | None = None
    hours: float | dict = 0.0
    reason: str = ""

    def cost(self, dataset):
        return self.hours.get(dataset, 0.0) if isinstance(self.hours, dict) else self.hours


def area_interval(area, n):
    """Hanley and McNeil's 95 % interval of an area under a ROC curve of n clean and n attacked samples."""
    one, other = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (one + other - 2 * area**2)) / n**2
    half = 1.959964 * math.sqrt(max(variance, 0.0))
    return max(0.0, area - half), min(1.0, area + half)


def interval(row):
    """The 95 % interval of a row, or None where it is no share and no area, or its n is not known."""
    if row.interval or row.value is None or not row.n:
        return row.interval
    if row.metric == "AUROC":
        return area_interval(row.value, row.n)
    return share_interval(row.value, row.n) if row.metric in SHARES else None


def missing(found, hours):
    """What stands in the place of numbers that nobody has measured: the words, the command and the CPU hours."""
    command = f"python -m evaluation {found.about['protocol']} --dataset {found.about['dataset']}"
    return f"not measured: `{command}`, about {hours:g} CPU hours"


def table(parts, found):
    """A line for each table and figure: how many numbers, of how many samples and seeds, and how wide the widest interval is."""
    lines, code = [], found.about.get("code")
    measured = "measured" if code and not _cache.changed(code) else "measured, by older code"
    for part in parts:
        rows = [row for row in part.rows(found) if row.value is not None] if part.rows else []
        if not rows:
            cost = part.cost(found.about["dataset"])
            state = missing(found, cost) if part.rows else f"not measured: {part.reason}" if cost else part.reason
            if cost and not part.rows:
                state += f"; about {cost:g} CPU hours"
            lines.append((part.paper, part.what, "", "", "", "", state))
            continue
        counts, seeds = sorted({row.n for row in rows if row.n}), sorted({row.seed or 0 for row in rows})
        widths = [ends[1] - ends[0] for row in rows if (ends := interval(row))]
        samples = "" if not counts else f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else counts[0]
        widest = f"± {max(widths) / 2:.3f}" if widths else ""
        lines.append((part.paper, part.what, len(rows), samples, ", ".join(map(str, seeds)), widest, measured))
    head = ("in the paper", "what", "numbers", "n", "seeds", "95 % interval at its widest", "state")
    return markdown(head, lines)
