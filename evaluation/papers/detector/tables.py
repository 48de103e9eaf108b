"""The tables of the page on the detector branch, laid out as the paper's figures."""

import dataclasses
import functools
import math

from evaluation.papers import counterparts
from evaluation.papers.counterparts import Counterpart
from evaluation.papers.detector.settings import COMMANDS, DYNAMIC, UNMEASURED
from evaluation.papers.unmeasured import beside, rows_of, unmeasured
from evaluation.runner.benign import size_text
from evaluation.runner.markdown import markdown, number, pivot


def _size(value):
    """A size to read, of the six digits that results have."""
    if value is None:
        return ""
    parts = round(255 * value)
    return size_text(parts / 255 if math.isclose(parts, 255 * value, rel_tol=1e-5) else value)


def _named(*words):
    return " ".join(word for word in words if word)


def _read(results, *tables, **fields):
    """The rows of these tables, with what the page shows of them: an adversary and what was fitted on it in words, sizes."""
    found = []
    for row in results.all(table=[f"metzen2017.{table}" for table in tables], **fields):
        size, under, over = _size(row.epsilon), row.get("accuracy under"), row.get("over")
        fitted = _named(row.get("fitted on"), _size(row.get("fitted at")))
        least = f"least, where accuracy is under {under:g}" if under else f"least, {over}" if over else ""
        adversary = least or _named(row.attack, row.norm, size) or fitted or "none"
        shown = {"size": size, "fitted on": fitted, "adversary": adversary}
        perturbation = _named(row.perturbation, size) or "none"
        found.append(dataclasses.replace(row, perturbation=perturbation, settings=row.settings | shown))
    return found


def _alone(row):
    """Without its interval, which the CSV has: matrices of them could not be read."""
    return number(row and dataclasses.replace(row, interval=None))


def detectability(results):
    """Figures 2 (left) and 6: the detector's accuracy beside the classifier's, by adversary and size."""
    return pivot(_read(results, "fig2", "fig6", attached_to=None), "adversary", "metric")


def depth(results):
    """Figure 2 (right)."""
    return pivot([row for row in _read(results, "fig2") if row.get("attached to")], "adversary", "attached to", _alone)


def sizes(results):
    """Figures 3 and 7."""
    by_attack = {}
    for row in _read(results, "fig3", "fig7"):
        by_attack.setdefault((row.attack, row.norm), []).append(row)
    return "\n\n".join(pivot(rows, "fitted on", "adversary", _alone) for rows in by_attack.values())


def transfer(results):
    """Figures 4 and 8; on the diagonal those of figures 2 and 6."""
    rows = _read(results, "fig4", "fig8")
    chosen = list(dict.fromkeys(row.get("fitted on") for row in rows))
    own = _read(results, "fig2", "fig6", metric="detection accuracy", attached_to=None, statistic=None)
    rows += [row for row in own if row.get("fitted on") in chosen]
    order = sorted(rows, key=lambda row: [chosen.index(row.get(name)) for name in ("fitted on", "adversary")])
    return pivot(order, "fitted on", "adversary", _alone)


def one_branch(results):
    return pivot(_read(results, "ours.one_branch"), "adversary", "fitted on", _alone)


def dynamic(results):
    """Figure 5, its tenths of sigma: on what misleads the classifier, and the accuracy that the classifier has left."""
    tenths = [row for row in _read(results, "fig5", statistic=None) if round(10 * row.get("sigma"), 6) % 1 == 0]
    return pivot(sorted(tenths, key=lambda row: row.metric, reverse=True), ("metric", "sigma"), "detector")


def least(results):
    """The sigma of figure 5 that is worst for each detector, at each size that it was trained for."""
    return pivot(sorted(_read(results, "fig5", statistic="minimum"), key=lambda row: -row.epsilon), "detector", "size")


def adaptive(results):
    return pivot(_read(results, "ours.adaptive"), ("detector", "attack", "threshold"), "size")


def benign(results):
    rows = sorted(_read(results, "ours.benign"), key=lambda row: row.get("threshold"))
    return pivot(rows, ("threshold", "detector"), "perturbation")


def training(results):
    return pivot(
        _read(results, "ours.training"), "detector", "metric", lambda row: f"{row.value:.0f}", {"count": "steps of 128 samples"}
    )


def topology(results):
    """The branch of figure 1 beside that of earlier versions."""

    def measured(row):
        if row.metric == "count":
            return row.get("counted")
        least = "least over sigma" if row.get("statistic") == "minimum" else ""
        return ", ".join(filter(None, (row.metric, row.detector, row.get("adversary"), least)))

    rows = _read(results, "ours.topology")
    return pivot(rows, measured, "convolutions") if rows else _unmeasured(results, "topology")


def regularized(results):
    """The classifier as it was, trained on, and trained on through its detector."""
    rows = _read(results, "ours.regularized")
    return pivot(rows, "base", "adversary") if rows else _unmeasured(results, "regularized")


def weights(results):
    """Whether the network is that of SafetyNet's page, which has a recipe of the same name."""
    other = beside("safetynet", results)
    if other is None:
        return "Of SafetyNet there are no results."
    own, theirs = results.settings["network"], other.settings["network"]
    clean = results(table="metzen2017.fig2", metric="accuracy", attack=""), other(table="lu2017.ours.networks", base="clean")
    same = "yes" if own == theirs and clean[0] == clean[1] else "no"
    if same == "yes" and ", weights " not in own:
        # All test samples: two networks seldom have as many right.
        same = "perhaps: the results are older than the weights' names, and as many clean samples are right"
    lines = [("this page", own, clean[0]), ("SafetyNet", theirs, clean[1])]
    return markdown(("page", "network", "clean accuracy"), lines) + f"\n\nThe same weights: {same}."


def as_in_the_paper(results):
    """Figure 5, at 1/255 alone: from the results of the protocol `detector_figure5`, which takes much longer than this one."""
    other = beside("detector_figure5", results)
    if other is None:
        return _unmeasured(results, "as_in_the_paper")
    return "\n\n".join([*(build(other) for build in _FIGURE5), rows_of(other)])


def _unmeasured(results, table):
    return unmeasured(*UNMEASURED[table][results.about["dataset"]])


def _of(*tables, **fields):
    return lambda results: results.all(table=[f"metzen2017.{table}" for table in tables], **fields)


COUNTERPARTS = (
    Counterpart("figure 1", "the detector, beside that of earlier versions", _of("ours.topology"), DYNAMIC),
    Counterpart("figures 2 (left) and 6", "detectability", _of("fig2", "fig6", attached_to=None), COMMANDS),
    Counterpart("figure 2 (right)", "detectability by depth", lambda results: [
        row for row in results.all(table="metzen2017.fig2") if row.get("attached to")], DYNAMIC),
    Counterpart("figures 3 and 7", "transfer between sizes", _of("fig3", "fig7"), COMMANDS),
    Counterpart("figures 4 and 8", "transfer between adversaries", _of("fig4", "fig8"), COMMANDS),
    Counterpart("figure 5", "dynamic adversary and detector, from larger sizes to smaller ones", _of("fig5"), DYNAMIC),
    Counterpart("figure 5", "as in the paper, at 1/255 alone", _of("fig5"), UNMEASURED["as_in_the_paper"], "", "detector_figure5"),
    Counterpart("outlook", "the detector's gradient as a regulariser", _of("ours.regularized"), UNMEASURED["regularized"]),
)  # fmt: skip
_ALL = (detectability, depth, sizes, transfer, one_branch, dynamic, least, adaptive, benign, training)
_ALL += (topology, regularized, weights, as_in_the_paper)
_FIGURE5 = (dynamic, least, benign, training)
TABLES = {
    "detector": {"counterparts": functools.partial(counterparts.table, COUNTERPARTS)} | {build.__name__: build for build in _ALL},
    "detector_figure5": {build.__name__: build for build in _FIGURE5},
}
