"""The tables of docs/results/dnr.md."""

from evaluation.papers.dnr import rows
from evaluation.runner.markdown import pivot

_ACCURACY = ("accuracy", "robust accuracy")
_NAMES = {"count": "support vectors", "sample": "paper's attack", "all": "worst case"}
_VARIANT = ("system", "base", "detector")


def _table(down, across, **fields):
    return lambda of: pivot(of.all(**fields), down, across, names=_NAMES)


def _clean(table, *down):
    """Of samples that nobody attacked, and of those under benign perturbations."""
    return {
        "clean": _table(down, "metric", table=table, starts="", perturbation=""),
        "benign": _table(down, "perturbation", table=table, perturbation=("direction", "dim", "shift")),
    }


TABLES = {
    "dnr": {
        "paper's attack": _table("epsilon", "system", table=rows.FIGURE, starts="sample", metric=_ACCURACY),
        "rejected": _table("epsilon", "system", table=rows.FIGURE, metric=("false-positive rate", "rejection rate")),
        "worst case": _table("epsilon", "system", table=rows.FIGURE, starts="all", metric=_ACCURACY),
        "order": _table(("attack", "starts"), "order", metric="order"),
        "cost": _table(("system", "detector"), "metric", table=rows.COST, starts=""),
        "compressed": _table(("system", "detector"), "starts", table=rows.COST, metric="robust accuracy"),
        **_clean(rows.CLEAN, "system"),
    },
    "dnr_trained": {
        "paper's attack": _table(_VARIANT, "epsilon", table=rows.VARIANTS, starts="sample", metric="robust accuracy"),
        "worst case": _table(_VARIANT, "epsilon", table=rows.VARIANTS, starts="all", metric="robust accuracy"),
        **_clean(rows.VARIANTS, *_VARIANT),
    },
}
