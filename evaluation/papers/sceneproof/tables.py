"""The tables of Lu et al. on SceneProof, ours beside the paper's."""

import functools

from evaluation.papers import counterparts
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.sceneproof.names import COLUMNS, RATES
from evaluation.papers.unmeasured import unmeasured
from evaluation.runner.markdown import markdown, number, pivot

# Of a whole run with its networks, by the seconds of the parts of an earlier one.
COSTS = {"nyu_depth_v2_small": ("sceneproof --workers 2", 3)}


def _of_table_4(results, threshold=None, **about):
    size = results.settings["epsilon"]
    rows = results.all(table="lu2017.table4", pairs=None, threshold=threshold, **about)
    return [row for row in rows if row.epsilon is None or abs(row.epsilon - size) < 1e-5]


def attacks(results, threshold=None):
    """Table 4: the rates under each attack, for each system."""
    rows, blocks = _of_table_4(results, threshold), []
    if not rows:
        return unmeasured(*COSTS[results.about["dataset"]])
    if threshold is not None:
        # A plain network has no rule.
        rows = [*_of_table_4(results, system="plain"), *rows]
    for rate in RATES:
        some = [row for row in rows if row.metric == rate]
        blocks.append(f"**{rate}**\n\n{pivot(some, 'attack', 'system')}")
    return "\n\n".join(blocks)


def forgeries(results):
    """Table 1: unfamiliar forgeries taken for true."""
    return pivot(results.all(table="lu2017.table1", threshold=None), "forgery", "system")


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
    return pivot(results.all(table="lu2017.ours.clean", metric="rejection rate", threshold=None), "label", "system")


def depth(results):
    """How far off guessed depth is, in metres."""
    return pivot(results.all(table="lu2017.ours.depth"), "system", "metric")


def _group(*pairs):
    return lambda results: results.all(table=("lu2017.table2", "lu2017.table3"), pairs=pairs)


def _under(wanted, threshold=None):
    return lambda results: [row for row in _of_table_4(results, threshold) if wanted(row.attack)]


def _from_resnet(attack):
    return "ResNet" in attack


_STEREO = "stereo pictures of Middlebury and the film Sintel are not here; rendered rooms stand for the film"
COUNTERPARTS = (
    Counterpart("table 1", "Det A, on unfamiliar forgeries", lambda results: results.all(
        table="lu2017.table1", system="Det A", threshold=None), COSTS),
    Counterpart("table 1", "Det A, means over attacks", lambda results: [
        row for row in results.all(table="lu2017.table4", system="Det A", threshold=None) if row.attack.endswith("mean")], COSTS),
    Counterpart("table 2", "classifier and detectors on real, forged and attacked pairs", _group("real", "forged"), COSTS),
    Counterpart(
        "table 3", "the same on unfamiliar forgeries", _group("no depth", "resampled", "low-quality jpeg", "rendered"), COSTS
    ),
    Counterpart("table 3", "the line of stereo pictures", None, 0.1, _STEREO),
    Counterpart("table 4", "no attack", _under(lambda attack: not attack), COSTS),
    Counterpart("table 4", "gradient descent, I and II, equally many real pairs rejected", _under(
        lambda attack: attack in ("type I", "type II")), COSTS),
    Counterpart("table 4", "gradient descent, I and II, at the paper's rule, f(c) > 0", _under(
        lambda attack: attack in ("type I", "type II"), "0"), COSTS),
    Counterpart("table 4", "transfers from a VGG", _under(
        lambda attack: "transfer," in attack and not attack.endswith("mean")), COSTS),
    Counterpart("table 4", "transfers from a ResNet, four lines", _under(_from_resnet), COSTS),
    Counterpart("table 4", "all transfers at the paper's rule", _under(
        lambda attack: "transfer" in attack and not attack.endswith("mean"), "0"), COSTS),
    Counterpart("figure 4", "forgeries and attacked pairs", reason="pictures, below"),
)  # fmt: skip
TABLES = {
    "sceneproof": {
        "attacks": attacks,
        "attacks, f(c) > 0": functools.partial(attacks, threshold="0"),
        "forgeries": forgeries,
        "detectors": detectors,
        "benign": benign,
        "clean": clean,
        "depth": depth,
        "counterparts": functools.partial(counterparts.table, COUNTERPARTS),
    }
}
