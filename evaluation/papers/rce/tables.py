"""The tables of Pang et al. (2018), ours beside theirs, and those that the paper does not have."""

import dataclasses
import functools

from evaluation.papers import counterparts
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.rce.measure import JSMAS, LEAST, RANDOM
from evaluation.papers.rce.protocol import TRAININGS
from evaluation.papers.rce.reproduce import SIMPLE
from evaluation.papers.unmeasured import unmeasured
from evaluation.runner import results
from evaluation.runner.markdown import markdown, number, pivot
from evaluation.runner.rows import Results

# Of a whole run, by the seconds of the parts of earlier ones, more networks and deeper ones.
_COSTS = {
    "rce": {
        "mnist": ("rce --dataset mnist --target-depth 8 --workers 2", 18),
        "cifar10": ("rce --dataset cifar10 --samples 300 --depth 20 --epochs 60 --target-depth 14 --workers 2", 28),
    },
    "rce_paper": {
        "mnist": ("rce_paper --dataset mnist --workers 2", 24),
        "cifar10": ("rce_paper --dataset cifar10 --samples 300 --workers 2", 40),
    },
    "rce_bandwidth": {"mnist": ("rce_bandwidth --dataset mnist --depth 14 --workers 2", 8)},
}
# Of fewer pairs an AUROC of the transfer says next to nothing.
PAIRS = 200


def _table(name, down, across, digits=3, show=None, names=None, **fields):
    def made(found):
        # Lines of one attack or start stand together.
        rows = found.all(table=f"pang2018.{name}", **fields)
        if not rows:
            return _missing(found)
        first = list(dict.fromkeys(row.get(down[0]) for row in rows))
        rows.sort(key=lambda row: first.index(row.get(down[0])))
        return pivot(rows, down, across, functools.partial(show or _worth, digits=digits), names)

    return made


def _missing(found):
    """What stands where these results have no row of a table."""
    protocol, dataset = found.about["protocol"], found.about["dataset"]
    return unmeasured(*_COSTS[protocol].get(dataset, (f"{protocol} --dataset {dataset}", 1)))


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
        return _missing(found)
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


def _of(table, **fields):
    return lambda found: found.all(table=f"pang2018.{table}", **fields)


def _of_many(**fields):
    return lambda found: [row for row in _of("table4", **fields)(found) if row.n >= PAIRS]


_RCE, _PAPER = _COSTS["rce"], _COSTS["rce_paper"]
_RESNET56 = "4 to 8 hours a network on MNIST, 20 on CIFAR-10, with either loss"
COUNTERPARTS = (
    Counterpart("table 1", "test error, a smaller network", _of("table1"), _RCE),
    Counterpart("table 1", "test error, the paper's schedule", _of("table1"), _PAPER, protocol="rce_paper"),
    Counterpart("table 1", "test error of ResNet-56", None, 48.0, _RESNET56),
    Counterpart("table 2", "AUROC under oblivious attacks", _of("table2", network="substitute", **_UNTARGETED), _RCE),
    Counterpart("table 2", "at random and least likely classes", _of("table2", network="substitute", target=(RANDOM, LEAST)), _RCE),
    Counterpart("table 3", "C&W-wb", _of("table3", **_UNTARGETED), _RCE),
    Counterpart("table 3", "C&W-wb at a random class", _of("table3", target=RANDOM), _RCE),
    Counterpart("table 4", f"transfer, {PAIRS} pairs or more", _of_many(**_UNTARGETED), _RCE),
    Counterpart("table 4", "the same at a random class", _of_many(target=RANDOM), _RCE),
    Counterpart("figures 1a and 1d, theorem 1", "drawings and a proof", reason="nothing to measure"),
    Counterpart("figures 1b and 1c", "t-SNE: pictures and a number", _of("fig1"), _RCE),
    Counterpart("figure 2a", "accuracy under simple attacks", _of("fig2a"), _RCE),
    Counterpart("figure 2b", "distortion", _of("fig2b", **_UNTARGETED), _RCE),
    Counterpart("figure 2b", "distortion, at a random class", _of("fig2b", target=RANDOM), _RCE),
    Counterpart("figure 3", "examples of C&W-wb", reason="pictures, below"),
    Counterpart("theorem 2", "both bounds", reason="a test, on a network that RCE has trained"),
    Counterpart("equations 2 and 3", "label smoothing, trained", _of("table2", system="label smoothing"), _RCE),
    Counterpart("appendix B.3", "noise against attacks", _of("b3"), _RCE),
)
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
_COUNTERPARTS = {"counterparts": functools.partial(counterparts.table, COUNTERPARTS)}
TABLES = {
    "rce": _OF_PAPER
    | _COUNTERPARTS
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
