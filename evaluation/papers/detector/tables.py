"""The tables of the page on the detector branch, laid out as the paper's figures."""

import dataclasses
import math

from evaluation.runner.benign import size_text
from evaluation.runner.pages import markdown, number, pivot


def _size(value):
    """A size to read, of the six digits that results have."""
    if value is None:
        return ""
    parts = round(255 * value)
    return size_text(parts / 255 if math.isclose(parts, 255 * value, rel_tol=1e-5) else value)


def _read(rows):
    """The rows with what pages show of them among their settings."""

    def named(*words):
        return " ".join(word for word in words if word)

    def shown(row):
        size = _size(row.epsilon)
        return {
            "size": size,
            "tested on": named(row.attack, row.norm, size) or f"least, {row.get('over')}",
            "fitted": named(row.get("fitted on"), _size(row.get("fitted at"))),
            "perturbation and size": named(row.perturbation, size) or "none",
        }

    return [dataclasses.replace(row, settings=row.settings | shown(row)) for row in rows]


def _own(results):
    """Rows of detectors on the adversary that they were fitted on."""
    figure = ["metzen2017.fig2", "metzen2017.fig6"]
    rows = _read(results.all(table=figure, metric="detection accuracy", attached_to=None, statistic=None))
    return {row.get("fitted"): row for row in rows}


def detectability(results):
    """Figures 2 (left) and 6: the detector's accuracy against the classifier's, by adversary and size."""
    lines = []
    for name, row in _own(results).items():
        accuracy = results.one(
            metric="accuracy", system="no defense", attack=row.attack, norm=row.norm, epsilon=row.epsilon, row="M4"
        )
        fitted = {"fitted_on": row.get("fitted on"), "fitted_at": row.get("fitted at")}
        lines.append((name, number(accuracy), number(row), number(results.one(metric="false-positive rate", **fitted))))
    for row in results.all(statistic="minimum", fitted_on="each"):
        lines.append((f"least, where accuracy is under {row.get('accuracy under'):g}", "", number(row), ""))
    return markdown(("adversary", "accuracy of the classifier", "detection accuracy", "false-positive rate"), lines)


def depth(results):
    """Figure 2 (right)."""
    return pivot(
        [row for row in _read(results.all(metric="detection accuracy")) if row.get("attached to")], "tested on", "attached to"
    )


def sizes(results):
    """Figures 3 and 7."""
    rows = _read(results.all(table=["metzen2017.fig3", "metzen2017.fig7"]))
    kinds = dict.fromkeys(row.get("fitted on") for row in rows)
    return "\n\n".join(pivot([row for row in rows if row.get("fitted on") == kind], "fitted", "tested on") for kind in kinds)


def transfer(results):
    """Figures 4 and 8; on the diagonal those of figures 2 and 6."""
    rows, own = _read(results.all(table=["metzen2017.fig4", "metzen2017.fig8"])), _own(results)
    chosen = dict.fromkeys(row.get("fitted") for row in rows)
    both = {(row.get("fitted"), row.get("tested on")): row for row in [*rows, *(own[name] for name in chosen)]}
    return markdown(("fitted on", *chosen), [(one, *(number(both.get((one, other))) for other in chosen)) for one in chosen])


def one_branch(results):
    return pivot(_read(results.all(table="metzen2017.ours.one_branch")), "tested on", "fitted")


def dynamic(results):
    """Figure 5, its tenths of sigma: detection accuracy on what misleads the classifier, which has so much accuracy left."""
    lines, fields = {}, {"table": "metzen2017.fig5"}
    rows = results.all(metric="detection accuracy", statistic=None, **fields)
    detectors = dict.fromkeys(row.detector for row in rows)
    for row in rows:
        left = results(metric="accuracy", detector=row.detector, sigma=row.get("sigma"), **fields)
        if round(10 * row.get("sigma"), 6) % 1 == 0:
            lines.setdefault(row.get("sigma"), {})[row.detector] = f"{number(row)} at {left:.3f}"
    return markdown(("sigma", *detectors), [(f"{sigma:g}", *found.values()) for sigma, found in lines.items()])


def least(results):
    """The sigma of figure 5 that is worst for each detector, at each size that it was trained for."""
    rows = results.all(table="metzen2017.fig5", statistic="minimum")
    return pivot(_read(sorted(rows, key=lambda row: -row.epsilon)), "detector", "size")


def adaptive(results):
    return pivot(_read(results.all(table="metzen2017.ours.adaptive")), ("detector", "attack", "threshold"), "size")


def benign(results):
    rows = results.all(table="metzen2017.ours.benign")
    return pivot(_read(sorted(rows, key=lambda row: row.get("threshold"))), ("threshold", "detector"), "perturbation and size")


def training(results):
    return pivot(results.all(table="metzen2017.ours.training"), "detector", "statistic", lambda row: f"{row.value:.0f}")


TABLES = {
    "detector": {
        function.__name__: function
        for function in (detectability, depth, sizes, transfer, one_branch, dynamic, least, adaptive, benign, training)
    }
}
