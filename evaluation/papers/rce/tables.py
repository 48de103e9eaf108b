"""The tables of Pang et al. (2018), ours beside theirs, and those that the paper does not have."""

import functools

from evaluation.papers.rce.protocol import ATTACKS, TRAININGS
from evaluation.runner.markdown import number, pivot


def _table(name, down, across, digits=3, show=number, names=None, **fields):
    def made(found):
        # Lines of one attack or start stand together.
        rows = found.all(table=f"pang2018.{name}", **fields)
        first = list(dict.fromkeys(row.get(down[0]) for row in rows))
        rows.sort(key=lambda row: first.index(row.get(down[0])))
        return pivot(rows, down, across, functools.partial(show, digits=digits), names)

    return made


def _of_so_many(row, digits):
    return number(row, digits) + (f", n = {row.n}" if row is not None and row.metric != "robust accuracy" else "")


_TABLE3 = {
    "false-positive rate": "f2 > 0, clean",
    "robust accuracy": "f2 > 0",
    "mean distance": "distortion",
    "distance ratio": "RCE over CE, where both lose",
}
_ADAPTIVE = _table("ours.adaptive", ("norm", "epsilon", "starts"), "system", metric="robust accuracy")
_BENIGN = _table("ours.benign", ("perturbation", "epsilon"), "system", metric="false-positive rate")
_WHITE_BOX = _table("table3", ("starts", "system"), "metric", 2, _of_so_many, _TABLE3)
TABLES = {
    "rce": {
        "table 1": _table("table1", ("network",), "system", 4),
        "table 2": _table("table2", ("attack", "system"), "detector", network="substitute"),
        "table 3": _WHITE_BOX,
        "table 4": _table("table4", ("substitute",), "system", show=_of_so_many),
        "figure 1": _table("fig1", ("classifier",), "system"),
        "figure 2a": _table("fig2a", ("attack", "system"), "epsilon", 2, attack=ATTACKS[:3]),
        "figure 2a, JSMA": _table("fig2a", ("attack", "system"), "theta", 2, attack="JSMA"),
        "figure 2b": _table("fig2b", ("attack",), "system", 2),
        "adaptive": _ADAPTIVE,
        "benign": _BENIGN,
        "SGD": _table("ours.sgd", ("learning rate",), "system", 4),
        "trainings": _table("table2", ("network", "system"), "attack", detector="K-density", network=TRAININGS),
        "points": _table("ours.points", ("points",), "system"),
    },
    "rce_bandwidth": {
        "bandwidths": _table("ours.bandwidth", ("system",), "bandwidth", 5, metric="squared bandwidth"),
        "table 2": _table("ours.bandwidth", ("attack", "system"), "bandwidth", metric="AUROC"),
        "adaptive": _ADAPTIVE,
        "benign": _BENIGN,
        "table 3": _table("table3", ("starts", "system"), "metric", 2, _of_so_many, _TABLE3, bandwidth="likeliest"),
        "longer": _table("table3", ("search", "system", "over"), "metric", 2, _of_so_many, _TABLE3, bandwidth="paper's"),
    },
}
