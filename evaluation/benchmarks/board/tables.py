"""The board as tables and a picture."""

import re

from evaluation.papers.unmeasured import unmeasured
from evaluation.runner.markdown import markdown
from evaluation.runner.summary import percent

# An estimate. Systems that look around a sample take most of it on MNIST; on CIFAR-10 they are left out.
HOURS = {"mnist": 7, "cifar10": 5}
SHOWN, CURVES = 8, 5
_OF_NO_PAPER = ("no defense", "confidence")  # systems that are not of the five papers
_LOOK = """<style>text { fill: #5b636b; font: 12px system-ui, sans-serif } .label { fill: #1c1f23 } .grid { stroke: #e2e5e8 }
polyline { fill: none; stroke-width: 2.2 } .hit { fill: none } .name { text-anchor: start }
.c0 { stroke: #0072b2 } .c1 { stroke: #d55e00 } .c2 { stroke: #6b747c } .c3 { stroke: #009e73 } .c4 { stroke: #b5489a }
.f0 { fill: #0072b2 } .f1 { fill: #d55e00 } .f2 { fill: #6b747c } .f3 { fill: #009e73 } .f4 { fill: #b5489a }
@media (prefers-color-scheme: dark) { text { fill: #a2acb5 } .label { fill: #e9ecef } .grid { stroke: #333a41 } }</style>"""


def ranked(results):
    """Rows of the median l2 distance in the order of their ranks; a system on which the attack failed has none."""
    return [row for row in results.all(table="board", metric="median distance", norm="l2") if row.value is not None]


def _bounded(row, text):
    # An attack that has failed a check may have missed what there is to find.
    return f"{'≤ ' if row.flags else ''}{text}"


def _interval(row, text="{:.2f}"):
    return " to ".join("beyond" if end is None else text.format(end) for end in row.interval)


def _doubt(row):
    return f" ({' to '.join(f'{100 * end:.0f}' for end in row.interval)})" if row.interval else ""


def _over_networks(row):
    return "-" if row.deviation is None else f"{row.deviation:.2f}"


def _compared(results, row):
    """Robust accuracy at the sizes at which the suite went on."""
    return results.all(system=row.system, base=row.base, metric="robust accuracy", compared=True)


def _line(results, rank, row):
    about = {"system": row.system, "base": row.base}
    robust = [_bounded(one, percent(one.value)) + _doubt(one) for one in _compared(results, row)]
    shares = [results(**about, metric="accuracy", counted=None), results(**about, metric="false-positive rate", perturbation="")]
    shares += [results(**about, metric="false-positive rate", perturbation="worst case")]
    distance = [_bounded(row, f"{row.value:.2f}"), _interval(row), _over_networks(row)]
    return [rank, row.system, row.base, *distance, *robust, *map(percent, shares)]


def _head(results):
    sizes = [f"robust accuracy, {one.norm} {one.epsilon:.3g}" for one in _compared(results, ranked(results)[0])]
    distance = ["median l2 distance", "95 % interval", "deviation over networks"]
    return ["rank", "defense", "base", *distance, *sizes, "accuracy", "false positives", "worst benign perturbation"]


def leaders(results):
    """The first systems and those without a defense."""
    rows = list(enumerate(ranked(results), 1))
    if not rows:
        return "No system has a rank: the attack failed on all of them."
    chosen = rows[:SHOWN] + [(rank, row) for rank, row in rows[SHOWN:] if row.system == "no defense"]
    return markdown(_head(results), [_line(results, rank, row) for rank, row in chosen])


def finding(results):
    """Five lines: the first of all, the first of a paper's detectors, the first on a clean network, and two without a defense."""
    rows = list(enumerate(ranked(results), 1))
    if not rows:
        return "No system has a rank: the attack failed on all of them."
    wanted = (
        lambda row: True,
        lambda row: row.system not in _OF_NO_PAPER and " + " not in row.system,
        lambda row: row.system == "no defense" and row.base == "adversarially trained",
        lambda row: row.base == "clean",
        lambda row: row.system == "no defense" and row.base == "clean",
    )
    chosen = dict(found for asked in wanted if (found := next((line for line in rows if asked(line[1])), None)))
    lines = []
    for rank, row in sorted(chosen.items()):
        about = {"system": row.system, "base": row.base}
        (robust,) = (one for one in _compared(results, row) if one.norm == "l2")
        shares = [
            results(**about, metric="accuracy", counted=None),
            results(**about, metric="false-positive rate", perturbation=""),
        ]
        half = _bounded(row, f"{row.value:.2f}")
        lines.append([rank, row.system, row.base, half, _bounded(robust, percent(robust.value)), *map(percent, shares)])
    head = [
        "rank",
        "rejects by",
        "network",
        "median l2 distance",
        f"robust accuracy, l2 {robust.epsilon:.3g}",
        "accuracy",
        "false positives",
    ]
    return markdown(head, lines)


def board(results):
    """Every system, with the checks that failed on it and the attack that found most."""
    rows = ranked(results)
    if not rows:
        return "No system has a rank: the attack failed on all of them."
    head, lines = [*_head(results), "found most by", "checks that failed"], []
    for rank, row in enumerate(rows, 1):
        lines.append([*_line(results, rank, row), row.get("found most by"), "; ".join(row.flags) or "-"])
    for row in results.all(table="board", metric="median distance", norm="l2"):
        if row.value is None:
            names = ["-", row.system, row.base]
            lines.append([*names, *["-"] * (len(head) - len(names) - 1), "; ".join(row.flags)])
    return markdown(head, lines)


def ood(results):
    """What is rejected of samples of no class."""
    sets = dict.fromkeys(row.ood for row in results.rows if row.ood)
    lines = []
    for row in ranked(results):
        shares = [percent(results(system=row.system, base=row.base, metric="rejection rate", ood=name)) for name in sets]
        lines.append((row.system, row.base, *shares))
    return markdown(("defense", "base", *sets), lines)


def cost(results):
    """What an attacker gets rejected, the stratified error, and what the claim of each system would imply."""
    lines, head = [], ()
    for row in ranked(results):
        about = {"system": row.system, "base": row.base}
        forced, errors = (results.all(**about, metric=name) for name in ("forced rejection rate", "stratified error"))
        noise = results.all(**about, perturbation="random signs")
        if not errors:
            continue
        implied = results.one(**about, metric="implied robust accuracy")
        record = f"{percent(implied.paper)} ({implied.get('source')})" if implied.paper is not None else "not known here"
        shown = [one for one in forced if one.epsilon > 0]
        lines.append((row.system, row.base, *(percent(one.value) for one in (*noise, *shown, *errors, implied)), record))
        head = (
            "defense",
            "base",
            *(f"random signs of {one.epsilon:.3g}, rejected" for one in noise),
            *(f"forced rejections, {one.norm} {one.epsilon:.3g}" for one in shown),
            *(f"stratified error, alpha {one.get('alpha'):g}" for one in errors),
            f"implied at {implied.norm} {implied.epsilon:.3g} without rejection",
            "record",
        )
    dataset = results.about.get("dataset", "mnist")
    return markdown(head, lines) if lines else unmeasured(f"board --dataset {dataset}", HOURS.get(dataset, 1))


def linf(results):
    """Robust accuracy at each size in linf, as grey levels of 255."""
    sizes = sorted({row.epsilon for row in results.all(table="board", metric="robust accuracy", norm="linf") if row.epsilon})
    lines = []
    for row in ranked(results):
        found = results.values("epsilon", system=row.system, base=row.base, metric="robust accuracy", norm="linf")
        lines.append((row.system, row.base, *(_bounded(row, percent(found[size])) for size in sizes)))
    return markdown(("defense", "base", *(f"linf {255 * size:.3g}/255" for size in sizes)), lines)


def comparisons(results):
    """Each system less the one that it is compared with."""
    lines = []
    for row in results.all(table="board.comparison"):
        names = [f"{system} ({base})" for system, base in ((row.system, row.base), (row.get("over"), row.get("over base")))]
        lines.append((*names, f"{row.value:.2f}", _interval(row), "; ".join(row.flags) or "-"))
    return markdown(("system", "less", "difference of median l2 distances", "95 % interval", "checks failed on either"), lines)


def curve(results):
    """The first systems, and the yardsticks without a defense, as an SVG that needs nothing else."""
    from tfdefense.reporting import charts

    names = [(row.system, row.base) for row in ranked(results)]
    yardsticks = [name for base in ("adversarially trained", "clean") if (name := ("no defense", base)) in names]
    chosen = list(dict.fromkeys([*names[: CURVES - len(yardsticks)], *yardsticks]))
    lines = []
    for colour, (system, base) in enumerate(chosen):
        points = dict(sorted(results.values("epsilon", system=system, base=base, metric="robust accuracy", norm="l2").items()))
        lines.append({"name": f"{system}, {base}", "x": list(points), "y": list(points.values()), "colour": colour})
    svg = charts.lines(lines, "l2 size of the perturbation", x_max=max(line["x"][-1] for line in lines), ylabel="robust accuracy")
    low = charts.HEIGHT + 8
    legend = [
        f'<polyline class="c{i}" points="{charts.LEFT},{low + 18 * i} {charts.LEFT + 22},{low + 18 * i}"/>'
        f'<text class="name" x="{charts.LEFT + 30}" y="{low + 18 * i + 4}">{line["name"]}</text>'
        for i, line in enumerate(lines)
    ]
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {charts.WIDTH} {low + 18 * len(lines)}" width="{charts.WIDTH}"'
    svg = re.sub(r"^<svg viewBox=\"[^\"]*\"", opened, svg)
    return svg.replace(">", f">{_LOOK}", 1).replace("</svg>", "".join(legend) + "</svg>") + "\n"


TABLES = {
    "board": {
        "finding": finding,
        "leaders": leaders,
        "board": board,
        "ood": ood,
        "linf": linf,
        "comparisons": comparisons,
        "cost": cost,
    }
}
PICTURES = {"board": {"curve": curve}}
