"""What the README shows of the results: the board as a table and a curve, and what each defense is worth."""

import json
import re
from pathlib import Path

from evaluation import sentences, worth
from tfdefense._files import write_text

CURVE = "evaluation/figures/ranking-mnist.svg"
SHOWN = 8
CURVES = 5
_LOOK = """<style>text { fill: #5b636b; font: 12px system-ui, sans-serif } .label { fill: #1c1f23 } .grid { stroke: #e2e5e8 }
polyline { fill: none; stroke-width: 2.2 } .hit { fill: none } .name { text-anchor: start }
.c0 { stroke: #0072b2 } .c1 { stroke: #d55e00 } .c2 { stroke: #6b747c } .c3 { stroke: #009e73 } .c4 { stroke: #b5489a }
.f0 { fill: #0072b2 } .f1 { fill: #d55e00 } .f2 { fill: #6b747c } .f3 { fill: #009e73 } .f4 { fill: #b5489a }
@media (prefers-color-scheme: dark) { text { fill: #a2acb5 } .label { fill: #e9ecef } .grid { stroke: #333a41 } }</style>"""


def board(directory):
    """The results of the board on MNIST, or None."""
    path = Path(directory) / "ranking-mnist.json"
    return json.loads(path.read_text()) if path.exists() else None


def table(content):
    """The first systems and those without a defense, as Markdown."""
    if content is None:
        return "The board is not measured yet: `python -m evaluation ranking` makes it."
    every = [row for row in content["rows"] if row["row"] == "ranking"]
    rows = [row for row in every if row.get("rank")]
    if not rows:
        return (
            "On the board no system has a rank: the attack failed on all of them. [RESULTS.md](evaluation/RESULTS.md) tells more."
        )
    chosen = rows[:SHOWN] + [row for row in rows[SHOWN:] if row["what"] == "no defense"]
    at = [key for key in rows[0] if key.startswith("not fooled at")]
    head = ["rank", "system", "base", "half fooled at l2", "95 %", *at, "clean, right", "clean, rejected", "harmless, rejected"]
    lines = [f"![How many hold against the size of the attack]({CURVE})", ""]
    lines += [f"| {' | '.join(head)} |", "| " + " | ".join(["---"] * len(head)) + " |"]
    for row in chosen:
        # An attack that has failed a check may have missed what there is to find.
        half = f"{'≤ ' if 'checks that failed' in row['note'] else ''}{row['ours']:.2f}"
        shares = [f"{100 * row[key]:.0f} %" for key in (*at, "clean right", "clean rejected", "most harmless rejected")]
        lines.append(f"| {' | '.join([str(row['rank']), row['what'], row['base'], half, row['between'], *shares])} |")
    number, failed = rows[0]["samples"], sum("checks that failed" in row["note"] for row in rows)
    told = [
        f"{number} samples of MNIST, the strongest of all attacks for each;",
        "every defense is calibrated as a whole to reject the same share of held-out clean ones.",
        f"Checks on the attack failed for {failed} of {len(rows)} (≤, the size is an upper limit): "
        "[RESULTS.md](evaluation/RESULTS.md) names them.",
        "*Attacked* bases were trained against PGD in l2, *joined* ones with a dustbin class and reverse cross-entropy,",
        "one of each kind; the interval is that of the samples alone, training anew may move a system further.",
    ]
    told += [f"{len(every) - len(rows)} more have no rank: half stand at the largest size, the attack failed."] * (every != rows)
    lines += ["", " ".join(told)]
    return "\n".join(lines)


def curve(content):
    """The first systems, and the yardsticks without a defense, as an SVG that needs nothing else."""
    from tfdefense.reporting import charts

    series = {entry["what"]: entry for entry in content["series"]}
    rows = [row for row in content["rows"] if row["row"] == "ranking" and row.get("rank")]
    names = [f"{row['what']}, {row['base']}" for row in rows]
    yardsticks = [name for name in ("no defense, attacked", "no defense, plain") if name in names]
    chosen = list(dict.fromkeys([*names[: CURVES - len(yardsticks)], *yardsticks]))
    lines = [{"name": name, "x": series[name]["x"], "y": series[name]["y"], "colour": i} for i, name in enumerate(chosen)]
    svg = charts.lines(lines, "l2 size of the perturbation", x_max=max(line["x"][-1] for line in lines), ylabel="right or rejected")
    low = charts.HEIGHT + 8
    legend = [
        f'<polyline class="c{i}" points="{charts.LEFT},{low + 18 * i} {charts.LEFT + 22},{low + 18 * i}"/>'
        f'<text class="name" x="{charts.LEFT + 30}" y="{low + 18 * i + 4}">{name}</text>'
        for i, name in enumerate(chosen)
    ]
    height = low + 18 * len(chosen)
    opened = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {charts.WIDTH} {height}" width="{charts.WIDTH}"'
    svg = re.sub(r"^<svg viewBox=\"[^\"]*\"", opened, svg)
    return svg.replace(">", f">{_LOOK}", 1).replace("</svg>", "".join(legend) + "</svg>") + "\n"


def marks(name):
    return f"<!-- {name}: written by `python -m evaluation results` -->", f"<!-- {name} ends -->"


def rendered(readme, directory):
    """The README's text with what stands between the marks made anew."""
    made = {"ranking": table(board(directory)), "worth": f"{worth.table(directory)}\n\n{sentences.bullets(directory)}"}
    for name, text in (made | {name: sentences.paragraph(name, directory) for name in sentences.PARAGRAPHS}).items():
        begin, end = marks(name)
        before, rest = readme.split(begin)
        readme = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return readme


def write(directory):
    """Into the README of the clone that the results lie in; results elsewhere have none."""
    root = Path(directory).resolve().parents[1]
    readme, content = root / "README.md", board(directory)
    if not readme.exists():
        return
    write_text(readme, rendered(readme.read_text(), directory))
    if content is not None and any(row.get("rank") for row in content["rows"]):
        write_text(root / CURVE, curve(content))
