"""The tables of the OOD board: what a score is worth under attack first, then what it is worth without."""

import json
from pathlib import Path

from evaluation.benchmarks.ood.measure import FAR, METRICS, NEAR
from evaluation.benchmarks.ood.search import ACCEPT, REJECT
from evaluation.papers.unmeasured import rows_of
from evaluation.runner.benign import size_text
from evaluation.runner.markdown import markdown, pivot
from evaluation.runner.summary import percent

# Commands and hours of CPU time. Estimated by the pace of a step: for each system two directions, two sizes, five searches.
COSTS = {"ood": {"cifar10": ("ood --dataset cifar10", 1.2), "imagenette_small": ("ood --dataset imagenette_small", 2)}}
_GROUPS = (NEAR, FAR)


def published():
    """What OpenOOD's leaderboard has, with its source."""
    return json.loads(Path(__file__).with_name("openood.json").read_text())


def _systems(results):
    """The names of the systems, best near AUROC first."""
    rows = results.all(table="ood", metric="AUROC", ood=NEAR)
    return [row.system for row in sorted(rows, key=lambda row: row.value, reverse=True)]


def _sizes(results):
    return sorted({row.epsilon for row in results.all(table="ood.attacked")})


def _named(sizes):
    return [f"linf {size_text(size)}" if size else "clean" for size in sizes]


def _attacked(results, system, attack, metric, **fields):
    """One row of each size."""
    rows = results.all(table="ood.attacked", system=system, attack=attack, metric=metric, **fields)
    return sorted(rows, key=lambda row: row.epsilon)


def _area(row):
    low, high = row.interval
    return f"{'≤ ' if row.flags else ''}{row.value:.3f} ({low:.2f} to {high:.2f})"


def _share(row):
    # What is rejected of OOD images falls with a stronger attack, what is rejected of known ones rises.
    bound = ("≥ " if row.metric == "false-positive rate" else "≤ ") if row.flags else ""
    low, high = (f"{100 * end:.0f}" for end in row.interval)
    return f"{bound}{percent(row.value)} ({low} to {high})"


def _areas(results, direction):
    sizes, lines = _sizes(results), []
    for system in _systems(results):
        rows = [row for group in _GROUPS for row in _attacked(results, system, direction, "AUROC", ood=group)]
        lines.append((system, *map(_area, rows), "; ".join(dict.fromkeys(flag for row in rows for flag in row.flags)) or "-"))
    head = [f"{group}, {name}" for group in _GROUPS for name in _named(sizes)]
    return markdown(("system", *head, "checks that failed"), lines)


def worth(results):
    """AUROC of each system before and after OOD images are attacked towards acceptance."""
    return _areas(results, ACCEPT)


def shares(results):
    """At the calibrated threshold: OOD images rejected when they are attacked, known ones rejected when they are."""
    sizes, lines = _sizes(results), []
    for system in _systems(results):
        rows = [row for group in _GROUPS for row in _attacked(results, system, ACCEPT, "rejection rate", ood=group)]
        rows += _attacked(results, system, REJECT, "false-positive rate")
        lines.append((system, *map(_share, rows)))
    head = [f"{group}, {name}" for group in (*_GROUPS, "known") for name in _named(sizes)]
    return markdown(("system", *head), lines)


def rejection(results):
    """AUROC of each system before and after known samples are attacked towards rejection."""
    return _areas(results, REJECT)


def clean(results):
    """Without an attack: AUROC, FPR at 95 % TPR and the share rejected, near and far, and what becomes of known samples."""
    lines = []
    for system in _systems(results):
        cells = []
        for group in _GROUPS:
            cells += [_area(results.one(table="ood", system=system, metric="AUROC", ood=group))]
            cells += [
                percent(results(table="ood", system=system, metric=name, ood=group)) for name in (METRICS["fpr"], "rejection rate")
            ]
        known = [percent(results(table="ood", system=system, metric=name)) for name in ("accuracy", "false-positive rate")]
        kind = results.all(table="ood", system=system)[0].get("kind")
        lines.append((system, kind, *cells, *known))
    head = [f"{group}: {name}" for group in _GROUPS for name in ("AUROC", METRICS["fpr"], "rejected")]
    return markdown(("system", "kind", *head, "accuracy", "known rejected"), lines)


def sets(results):
    """AUROC of each system on each OOD set."""
    order = _systems(results)
    known = [name for name in dict.fromkeys(row.ood for row in results.all(table="ood")) if name and name not in _GROUPS]
    rows = sorted(results.all(table="ood", metric="AUROC", ood=known), key=lambda row: order.index(row.system))
    return f"{pivot(rows, 'system', 'ood', _area)}\n\n{rows_of(results)}"


def openood(results):
    """The published mean over near sets beside ours; neither network nor sets are the same."""
    found, lines = published(), []
    own = {row.system: row for row in results.all(table="ood", metric="AUROC", ood=NEAR)}
    for system, (theirs, near) in found["scores"].items():
        if system in own:
            lines.append((system, _area(own[system]), theirs, f"{near / 100:.4f}"))
    accuracy = results(table="ood", metric="accuracy", system="no defense")
    lines.append(("accuracy of the network", f"{accuracy:.3f}", "", f"{found['accuracy'] / 100:.4f}"))
    head = ("score", f"near AUROC here, {results.settings['near']}", "in OpenOOD", f"near AUROC there, {found['near']}")
    return markdown(head, lines)


def choice(results):
    """AUROC on images that choose, the best first."""
    rows = results.all(table="ood.choice", metric="AUROC")
    rows = sorted(rows, key=lambda row: row.value, reverse=True)
    return markdown(("system", f"AUROC, {rows[0].get('sets')}"), [(row.system, _area(row)) for row in rows])


TABLES = {
    "ood": {
        "worth": worth,
        "shares": shares,
        "rejection": rejection,
        "clean": clean,
        "sets": sets,
        "openood": openood,
        "choice": choice,
    },
}
