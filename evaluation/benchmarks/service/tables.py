"""The tables of what a defense costs in service."""

from evaluation.runner.markdown import markdown, number


def decisions(results):
    """A line for each system, runtime and batch."""
    head = ("network", "defense", "runtime", "batch", "of", "metric", "value")
    lines = [
        (row.base or "-", row.system, row.get("runtime") or "-", row.get("batch") or row.n, row.get("of") or "a decision")
        + (row.metric, number(row))
        for row in results.all(table="service.decisions")
    ]
    return markdown(head, lines)


def fits(results):
    """A line for each fit."""
    lines = {}
    for row in results.all(table="service.fits"):
        key = row.system, row.n, row.get("drawn"), row.get("result")
        lines.setdefault(key, {})[row.metric] = number(row)
    metrics = {"CPU seconds": "CPU seconds", "time ratio": "passes forward a sample", "GiB": "GiB beyond the network"}
    head = ("defense", "samples", "drawn of them", "result", *metrics.values())
    return markdown(head, [(*key, *(found.get(metric) for metric in metrics)) for key, found in lines.items()])


COSTS = {"service": {"mnist": ("service --dataset mnist", 0.2)}}
TABLES = {"service": {"decisions": decisions, "fits": fits}}
