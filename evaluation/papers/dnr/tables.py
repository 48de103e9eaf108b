"""The tables of docs/results/dnr.md."""

import functools

from evaluation.papers import counterparts
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.dnr import rows
from evaluation.papers.dnr.measure import PAPERS, PRINTED
from evaluation.papers.unmeasured import unmeasured
from evaluation.runner.markdown import pivot

_ACCURACY = ("accuracy", "robust accuracy")
_NAMES = {"count": "support vectors"}
_VARIANT = ("system", "base", "detector")
# By the seconds of the parts of earlier runs, more splits and samples, and networks trained as long as the paper's.
_COSTS = {
    "dnr": {
        "mnist": ("dnr --dataset mnist --workers 2", 8),
        "cifar10": ("dnr --dataset cifar10 --samples 300 --splits 3 --vectors 0 --workers 2", 16),
    },
    "dnr_trained": {"mnist": ("dnr_trained --dataset mnist --workers 2", 6)},
}


def _table(down, across, **fields):
    def made(of):
        found, protocol, dataset = of.all(**fields), of.about["protocol"], of.about["dataset"]
        if found:
            return pivot(found, down, across, names=_NAMES)
        return unmeasured(*_COSTS[protocol].get(dataset, (f"{protocol} --dataset {dataset}", 1)))

    return made


def attack(row):
    if row.starts == "all":
        return "worst case"
    kept = row.get("kept")
    return f"paper's attack, {kept}" if kept else "paper's attack"


def _under(kept, down, across, **fields):
    """Of the paper's attack, from the sample."""
    return _table(down, across, starts="sample", kept=kept, **fields)


def _clean(table, *down):
    """Of samples that nobody attacked, and of those under benign perturbations."""
    return {
        "clean": _table(down, "metric", table=table, starts="", perturbation=""),
        "benign": _table(down, "perturbation", table=table, perturbation=("direction", "dim", "shift")),
    }


_FIGURE = {"table": rows.FIGURE, "metric": _ACCURACY}
_REJECTED = {"table": rows.FIGURE, "metric": ("false-positive rate", "rejection rate")}
_VARIANTS = {"table": rows.VARIANTS, "metric": "robust accuracy"}
_LAST = PRINTED["kept"]


def _curves(kept, **fields):
    return lambda of: of.all(**fields, starts="sample", kept=kept)


_PICTURES = "pictures, below"
COUNTERPARTS = (
    Counterpart("figure 1", "the parts of DNR", reason="a drawing without numbers"),
    Counterpart("tables I and II", "networks and their training", reason="recipes `mnist_dnr` and `cifar10_dnr`"),
    Counterpart("figure 2", "the attack in the plane", reason=_PICTURES),
    Counterpart("figure 3", "accuracy under algorithm 1, its best point", _curves(PAPERS, **_FIGURE), _COSTS["dnr"]),
    Counterpart("figure 3", "accuracy under algorithm 1 as printed", _curves(_LAST, **_FIGURE), _COSTS["dnr"]),
    Counterpart("figure 3", "rejection rates, its best point", _curves(PAPERS, **_REJECTED), _COSTS["dnr"]),
    Counterpart("figure 3", "rejection rates as printed", _curves(_LAST, **_REJECTED), _COSTS["dnr"]),
    Counterpart("figures 4 and 5", "adversarial examples", reason=_PICTURES),
    Counterpart("text", "how far the nearest examples are", lambda of: of.all(table=rows.DISTANCE), _COSTS["dnr"]),
    Counterpart("outlook", "SVMs and network trained together", lambda of: of.all(table=rows.VARIANTS), {
        "mnist": _COSTS["dnr_trained"]["mnist"]}, protocol="dnr_trained"),
)  # fmt: skip
TABLES = {
    "dnr": {
        "counterparts": functools.partial(counterparts.table, COUNTERPARTS),
        "paper's attack": _under(PAPERS, "epsilon", "system", **_FIGURE),
        "as printed": _under(_LAST, "epsilon", "system", **_FIGURE),
        "rejected": _under(PAPERS, "epsilon", "system", **_REJECTED),
        "rejected as printed": _under(_LAST, "epsilon", "system", **_REJECTED),
        "worst case": _table("epsilon", "system", starts="all", **_FIGURE),
        "order": _table((attack, "starts"), "order", metric="order"),
        "distance": _table("system", "metric", table=rows.DISTANCE),
        "cost": _table(("system", "detector"), "metric", table=rows.COST, starts=""),
        "compressed": _table(("system", "detector"), attack, table=rows.COST, metric="robust accuracy"),
        **_clean(rows.CLEAN, "system"),
    },
    "dnr_trained": {
        "paper's attack": _under(PAPERS, _VARIANT, "epsilon", **_VARIANTS),
        "as printed": _under(_LAST, _VARIANT, "epsilon", **_VARIANTS),
        "worst case": _table(_VARIANT, "epsilon", starts="all", **_VARIANTS),
        **_clean(rows.VARIANTS, *_VARIANT),
    },
}
