"""The tables of Lu et al. on SceneProof, ours beside the paper's."""

from evaluation.papers.sceneproof.names import COLUMNS, RATES
from evaluation.runner.markdown import markdown, number, pivot


def attacks(results):
    """Table 4: the rates under each attack, for each system."""
    size = results.settings["epsilon"]
    rows = [row for row in results.all(table="lu2017.table4", pairs=None) if row.epsilon in (None, size)]
    blocks = []
    for rate in RATES:
        some = [row for row in rows if row.metric == rate]
        blocks.append(f"**{rate}**\n\n{pivot(some, 'attack', 'system')}")
    return "\n\n".join(blocks)


def forgeries(results):
    """Table 1: unfamiliar forgeries taken for true."""
    return pivot(results.all(table="lu2017.table1"), "forgery", "system")


def detectors(results):
    """Tables 2 and 3: the classifier right, and each detector's flags, for each group of pairs."""
    rows = results.all(table=("lu2017.table2", "lu2017.table3"))
    groups = dict.fromkeys((row.get("pairs"), row.attack) for row in rows)
    lines = []
    for pairs, attack in groups:
        found = {row.detector or "right": row for row in rows if (row.get("pairs"), row.attack) == (pairs, attack)}
        lines.append([pairs, attack or "none", *(number(found.get(column)) for column in COLUMNS)])
    return markdown(("pairs", "attack", *COLUMNS), lines)


def benign(results):
    """What nobody forged or attacked: called forged, or rejected."""
    return pivot(results.all(table="lu2017.ours.benign"), ("perturbation", "metric"), "system")


def clean(results):
    return pivot(results.all(table="lu2017.ours.clean", metric="rejection rate"), "label", "system")


TABLES = {"sceneproof": {"attacks": attacks, "forgeries": forgeries, "detectors": detectors, "benign": benign, "clean": clean}}
