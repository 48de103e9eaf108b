"""The tables of the benchmarks that have no package of their own."""

from evaluation.runner.pages import markdown


def calibration(results):
    """Mean rate, 95th percentile and share of draws above the promise, for each system, number of samples and rule."""
    rows = results.all(statistic="mean")
    lines = []
    for row in rows:
        about = {"system": row.system, **{name: row.get(name) for name in ("calibrated on", "rule")}}
        values = [results(**about, statistic=name) for name in ("mean", "95th percentile", "draws above")]
        lines.append((row.system, row.get("calibrated on"), row.get("rule"), *values, row.note))
    head = ("system", "calibrated on", "rule", "false-positive rate, mean", "95th percentile", "draws above 5 %", "note")
    return markdown(head, lines)


TABLES = {"calibration": {"rates": calibration}}
