"""The tables of the benchmarks that have no package of their own."""

from evaluation.runner.markdown import markdown, number


def calibration(results):
    """Mean rate, 95th percentile and share of draws above the promise, for each system, number of samples and rule."""
    rows = results.all(statistic="mean")
    lines = []
    for row in rows:
        about = {"system": row.system, **{name: row.get(name) for name in ("calibrated on", "rule")}}
        values = [results(**about, statistic=name) for name in ("mean", "95th percentile", "draws above")]
        few = [row.get(name) for name in ("left out", "needed")]
        lines.append((row.system, row.get("calibrated on"), row.get("rule"), *values, *few))
    head = ("system", "calibrated on", "rule", "false-positive rate, mean", "95th percentile", "draws above 5 %")
    return markdown((*head, "draws of too few samples, left out", "samples needed"), lines)


def reports(results):
    """Minutes and verdict of each report."""
    rows = results.all(metric="minutes")
    head = ("system", "plan", "images", "minutes", "verdict", "checks that failed")
    return markdown(head, [(r.system, r.get("plan"), r.n, number(r), r.note, "; ".join(r.flags)) for r in rows])


def zoo(results):
    """A line for each model: what it does on clean samples, and its robust accuracy in the worst case over all attacks."""
    sizes = dict.fromkeys((row.norm, row.epsilon) for row in results.all(metric="robust accuracy"))
    lines = []
    for system in dict.fromkeys(row.system for row in results.rows):
        clean = [results(system=system, metric=metric) for metric in ("accuracy", "false-positive rate")]
        robust = [results.one(system=system, norm=norm, epsilon=size) for norm, size in sizes]
        lines.append((system, *clean, *(row.value for row in robust), robust[0].get("suite"), robust[0].n))
    head = ("model", "accuracy", "false-positive rate", *(f"robust accuracy, {norm} {size:g}" for norm, size in sizes))
    head += ("suite", "attacked samples")
    return markdown(head, lines)


def zoo_ood(results):
    """The share of each OOD set that a model rejects."""
    rows = results.all(metric="rejection rate")
    texts = {}
    for row in rows:
        low, high = row.interval
        texts[row.system, row.ood] = f"{100 * row.value:.3g} % [{100 * low:.0f}, {100 * high:.0f}]"
    names = list(dict.fromkeys(row.ood for row in rows))
    lines = [(system, *(texts.get((system, name), "-") for name in names)) for system in dict.fromkeys(row.system for row in rows)]
    return markdown(("model", *(f"{name} rejected" for name in names)), lines)


def nearest(results):
    """A line for each model and norm: on which share one run is no farther, both medians, and the iterations."""
    lines = []
    for row in results.all(metric="no farther"):
        here = {"system": row.system, "norm": row.norm}
        each = {metric: results.values("attack", **here, metric=metric) for metric in ("median distance", "iterations")}
        medians, iterations = ([each[metric].get(one) for one in ("minimum norm", "sweep")] for metric in each)
        lines.append((row.system, row.norm, row.n, row.value, *medians, *iterations, iterations[0] / iterations[1]))
    head = ("model", "norm", "n", "share no farther than the sweep + 2 %", "median distance, one run", "median distance, sweep")
    return markdown((*head, "iterations, one run", "iterations, sweep", "share of its iterations"), lines)


TABLES = {
    "calibration": {"rates": calibration},
    "nearest": {"shares": nearest},
    "report": {"reports": reports},
    "zoo": {"models": zoo, "ood": zoo_ood},
}
