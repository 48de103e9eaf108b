"""The tables of Pang et al. (2018), ours beside theirs, and those that the paper does not have."""

import dataclasses
import functools

from evaluation.papers.rce.measure import JSMAS, LEAST, RANDOM
from evaluation.papers.rce.protocol import TRAININGS
from evaluation.papers.rce.reproduce import SIMPLE
from evaluation.runner import results
from evaluation.runner.markdown import markdown, number, pivot
from evaluation.runner.rows import Results

# Where results that are here were made before a table: what measures it, and the hours of these 2 cores that a person expects.
COMMANDS = {
    "rce-mnist": ("python -m evaluation rce --dataset mnist --target-depth 8 --workers 2", "9"),
    "rce-cifar10": (
        "python -m evaluation rce --dataset cifar10 --samples 300 --depth 20 --epochs 60 --target-depth 14 --workers 2",
        "14",
    ),
    "rce_bandwidth-mnist": ("python -m evaluation rce_bandwidth --dataset mnist --depth 14 --workers 2", "4"),
}
# Of fewer pairs an AUROC of the transfer says next to nothing.
PAIRS = 200


def _table(name, down, across, digits=3, show=None, names=None, **fields):
    def made(found):
        # Lines of one attack or start stand together.
        rows = found.all(table=f"pang2018.{name}", **fields)
        if not rows:
            return missing(found)
        first = list(dict.fromkeys(row.get(down[0]) for row in rows))
        rows.sort(key=lambda row: first.index(row.get(down[0])))
        return pivot(rows, down, across, functools.partial(show or _worth, digits=digits), names)

    return made


def missing(found):
    """What stands where these results have no row of a table."""
    command, hours = COMMANDS.get(found.name, (f"python -m evaluation {found.about['protocol']}", "some"))
    return f"Not measured. `{command}` measures it, about {hours} hours with all else."


def _worth(row, digits):
    """The number with its interval and its deviation over the networks, and the paper's."""
    if row is None or row.interval is None or row.deviation is None:
        return number(row, digits)
    own, paper, rest = number(dataclasses.replace(row, deviation=None), digits).partition(" (paper")
    return f"{own} ± {row.deviation:.{digits}f}{paper}{rest}"


def _of_so_many(row, digits):
    return _worth(row, digits) + (f", n = {row.n}" if row is not None and row.metric != "robust accuracy" else "")


def _of_enough(row, digits):
    if row is None or row.n >= PAIRS:
        return _of_so_many(row, digits)
    paper = "" if row.paper is None else f" (paper {row.paper:.{digits}f})"
    return f"not measured: n = {row.n}, fewer than {PAIRS}{paper}"


def weights(found):
    """The fingerprint of each network's weights, and for the bandwidths whether `rce` has the same."""
    own = found.settings.get("weights")
    if not own:
        return missing(found)
    path = results.RESULTS / f"rce-{found.about['dataset']}.json"
    theirs = Results.load(path).settings.get("weights", {}) if found.about["protocol"] == "rce_bandwidth" and path.exists() else {}
    if found.about["protocol"] != "rce_bandwidth":
        return markdown(("network", "weights"), own.items())
    lines = [(name, one, "not known" if name not in theirs else one == theirs[name]) for name, one in own.items()]
    return markdown(("network", "weights", "the same in `rce`"), lines)


_TABLE3 = {
    "false-positive rate": "f2 > 0, clean",
    "robust accuracy": "f2 > 0",
    "mean distance": "distortion",
    "distance ratio": "RCE over CE, where both lose",
}


def pairs(row):
    """Samples behind the numbers of a line, those of all networks together."""
    return row.n


_ADAPTIVE = _table("ours.adaptive", ("norm", "epsilon", "starts"), "system", metric="robust accuracy")
_BENIGN = _table("ours.benign", ("perturbation", "epsilon"), "system", metric="false-positive rate")
_TABLE2 = ("attack", "system", pairs)
_WHITE_BOX = ("table3", ("starts", "system"), "metric", 2, _of_so_many, _TABLE3)
_UNTARGETED = {"target": None}

_OF_PAPER = {
    "table 1": _table("table1", ("network",), "system", 4),
    "table 2": _table("table2", _TABLE2, "detector", network="substitute", **_UNTARGETED),
    "table 2, targeted": _table("table2", _TABLE2, "detector", network="substitute", target=(RANDOM, LEAST)),
    "table 3": _table(*_WHITE_BOX, **_UNTARGETED),
    "table 3, targeted": _table(*_WHITE_BOX, target=RANDOM),
    "table 4": _table("table4", ("substitute",), "system", show=_of_enough, **_UNTARGETED),
    "table 4, targeted": _table("table4", ("substitute",), "system", show=_of_enough, target=RANDOM),
    "figure 1": _table("fig1", ("classifier",), "system"),
    "figure 2a": _table("fig2a", ("attack", "system"), "epsilon", 2, attack=SIMPLE),
    "figure 2a, JSMA": _table("fig2a", ("attack", "system"), "theta", 2, attack=JSMAS[0], **_UNTARGETED),
    "figure 2a, JSMA of single pixels": _table("fig2a", ("attack", "system"), "theta", 2, attack=JSMAS[0], target=LEAST),
    "figure 2b": _table("fig2b", ("attack",), "system", 2, _of_so_many, **_UNTARGETED),
    "figure 2b, targeted": _table("fig2b", ("attack",), "system", 2, _of_so_many, target=RANDOM),
    "noise": _table("b3", ("attack", "target", "system", pairs), "detector"),
    "seeds": _table("ours.seeds", ("attack", "target", "system"), "seed", of="table2", detector="K-density"),
    "weights": weights,
}
TABLES = {
    "rce": _OF_PAPER
    | {
        "adaptive": _ADAPTIVE,
        "benign": _BENIGN,
        "SGD": _table("ours.sgd", ("learning rate",), "system", 4),
        "trainings": _table("table2", ("network", "system"), "attack", detector="K-density", network=TRAININGS),
        "points": _table("ours.points", ("points",), "system"),
    },
    "rce_paper": _OF_PAPER | {"adaptive": _ADAPTIVE, "benign": _BENIGN},
    "rce_bandwidth": {
        "bandwidths": _table("ours.bandwidth", ("system",), "bandwidth", 5, metric="squared bandwidth"),
        "table 2": _table("ours.bandwidth", ("attack", "system"), "bandwidth", metric="AUROC"),
        "adaptive": _ADAPTIVE,
        "benign": _BENIGN,
        "table 3": _table(*_WHITE_BOX, bandwidth="likeliest"),
        "longer": _table("table3", ("search", "system", "over"), "metric", 2, _of_so_many, _TABLE3, bandwidth="paper's"),
        "weights": weights,
    },
}
