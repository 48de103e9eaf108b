"""Tables over the results of all protocols: what each defense is worth, and where the papers' results are."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from evaluation.runner.markdown import markdown
from evaluation.runner.rows import Results


class Line(NamedTuple):
    """A defense under the attack of its paper and under the worst case over adaptive ones, as docs/results/defenses.md shows it.

    `paper` and `adaptive` give the robust accuracy of the defense, and that of what stands `beside` it or None.
    """

    defense: str
    results: str
    attack: str
    paper: Callable
    attacker: str
    adaptive: Callable
    beside: str
    clean: Callable
    benign: Callable
    kind: str


_HEAD = (
    "defense",
    "on",
    "attack of its paper",
    "robust accuracy",
    "adaptive attacker",
    "robust accuracy",
    "false positives",
    "benign perturbations rejected",
)
_SETS = {"mnist": "MNIST", "cifar10": "CIFAR-10"}


def percent(share):
    """A share in percent: nothing that is not whole is shown as none or as all."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.{1 if 0 < share < 0.005 or 0.995 <= share < 1 else 0}f} %"


def _beside(pair, name):
    own, other = pair
    return percent(own) + (f" ({name}: {percent(other)})" if other is not None else "")


def defenses(directory):
    """A line for each defense whose results are there."""
    from evaluation.papers import LINES

    lines = []
    for package in LINES:
        for line in importlib.import_module(f"evaluation.papers.{package}.goals").LINES:
            path = Path(directory) / f"{line.results}.json"
            if path.exists():
                found = Results.load(path)
                cells = [line.defense, _SETS[found.about["dataset"]], line.attack, _beside(line.paper(found), line.beside)]
                cells += [line.attacker, _beside(line.adaptive(found), line.beside)]
                cells += [percent(line.clean(found)), f"{percent(line.benign(found))} of {line.kind}"]
                lines.append(cells)
    return markdown(_HEAD, lines)


def paper_rows(directory):
    """The papers' results, and how many of our numbers are of each."""
    from evaluation.papers.rows import ROWS

    every = [Results.load(path) for path in sorted(Path(directory).glob("*.json"))]
    lines = []
    for name, about in ROWS.items():
        counts = {found.name: len(found.all(row=name)) for found in every}
        where = "; ".join(f"{count} in {found}" for found, count in counts.items() if count)
        lines.append((name, about.what, where or about.reason or "not measured yet"))
    return markdown(("row", "what", "numbers, or why none"), lines)


_PAPERS = {
    "dnr": "Sotgiu et al. 2020, Deep Neural Rejection",
    "rce": "Pang et al. 2018, reverse cross-entropy",
    "safetynet": "Lu et al. 2017, SafetyNet",
    "sceneproof": "Lu et al. 2017, SceneProof",
    "dustbin": "Abbasi et al. 2018, the dustbin",
    "detector": "Metzen et al. 2017, the detector branch",
}


def commands(directory):
    """A line for each command that measures tables and figures of a paper, and what it takes."""
    measured = {}
    for package, paper in _PAPERS.items():
        for part in importlib.import_module(f"evaluation.papers.{package}.tables").COUNTERPARTS:
            if part.rows:
                for command, hours in part.cost.values():
                    measured.setdefault((paper, f"`python -m evaluation {command}`", f"{hours:g}", package), []).append(part.paper)
    lines = [
        (f"[{paper}]({package}.md)", "; ".join(dict.fromkeys(parts)), command, hours)
        for (paper, command, hours, package), parts in measured.items()
    ]
    return markdown(("paper", "its tables and figures", "command", "CPU hours"), lines)


BLOCKS = {"defenses": defenses, "rows": paper_rows, "commands": commands}
