"""The tables of docs/results/dnr.md."""

from evaluation.papers.dnr import rows
from evaluation.papers.dnr.measure import PAPERS, PRINTED
from evaluation.runner.markdown import pivot

_ACCURACY = ("accuracy", "robust accuracy")
_NAMES = {"count": "support vectors"}
_VARIANT = ("system", "base", "detector")


def _table(down, across, **fields):
    return lambda of: pivot(of.all(**fields), down, across, names=_NAMES) if of.all(**fields) else "Not measured yet."


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
TABLES = {
    "dnr": {
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
