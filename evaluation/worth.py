"""What the README says each defense is worth: a table, rendered from the results of the protocols alone."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from evaluation.safetynet_attacks import PAPERS
from evaluation.safetynet_fit import CONFIDENCE, EVERY_CHANGE, PLAIN

_HEAD = ("defense", "on", "as its paper attacks it", "not fooled", "who knows it", "not fooled", "clean rejected", "noise rejected")


class Found:
    """What one protocol has found on one data set."""

    def __init__(self, content):
        self.rows = {row["what"]: row for row in content["rows"]}
        self.settings = content.get("settings", {})
        self.curves = {curve["what"]: dict(zip(curve["x"], curve["y"], strict=True)) for curve in content.get("series", [])}

    def __call__(self, what, key="ours"):
        return self.rows[what][key]

    def items(self, start):
        """Numbers of the rows that begin so, by the rest of their names."""
        return [(what.removeprefix(start), row["ours"]) for what, row in self.rows.items() if what.startswith(start)]

    def at(self, curve, size):
        return self.curves[curve][size]

    def told(self, what, change):
        """Of a change, from a row whose note tells of several."""
        return float(re.search(rf"\b{re.escape(change)} ([\d.]+)", self(what, "note"))[1])


class Line(NamedTuple):
    """A defense under the attack of its paper and under the strongest that knows it.

    Each of `paper` and `known` gives what it leaves not fooled, and what that leaves which stands `beside` it.
    """

    defense: str
    results: str
    attack: str
    paper: Callable
    attacker: str
    known: Callable
    beside: str
    clean: Callable
    noise: Callable
    kind: str


def _dustbin(defense, results, name, size, noise, naive="naive", forms=("DeepFool", "DeepFool, longer")):
    measured, beside = f"harmless {noise} rejected: {name}", f"average error over the attacks, {{}}, {naive}".format
    strongest = f"error, PGD linf {size}, the strongest of all, {{}}".format
    return Line(
        defense,
        results,
        "five attacks made on another network",
        # As for the defense the worse form of DeepFool is among them.
        lambda of: (1 - of(measured, "black_box"), 1 - max(of(beside(form)) for form in forms)),
        f"PGD, linf {size}",
        # Of the network without a dustbin that was trained with noise nobody has measured this.
        lambda of: (1 - of(strongest(name)), 1 - of(strongest("naive")) if naive == "naive" else None),
        "no dustbin",
        lambda of: of.told(measured, "unchanged"),
        lambda of: of(measured),
        noise,
    )


def _density(results, size):
    left = f"not fooled, linf {size}, {{}}, {{}}".format
    return Line(
        "RCE + K-density",
        results,
        f"PGD, linf {size}, from the sample",
        lambda of: (of(left("from x", "RCE")), of(left("from x", "CE"))),
        "from all starts, three searches",
        lambda of: (of(left("all starts", "RCE")), of(left("all starts", "CE"))),
        "cross-entropy + K-density",
        lambda of: of("rejected, unchanged, RCE"),
        lambda of: of("rejected, sign 0.1, RCE"),
        "sign 0.1",
    )


def _dnr(results, size, noise):
    curve = "{}, {}: accuracy against l2 size".format
    return Line(
        "DNR",
        results,
        f"PGD, l2 {size:g}, from the sample",
        lambda of: tuple(of.at(curve(name, "from the sample, as in the paper"), size) for name in ("DNR", "DNN")),
        "from all starts, three searches",
        lambda of: tuple(of.at(curve(name, "strongest of all starts"), size) for name in ("DNR", "DNN")),
        "no defense",
        lambda of: of("DNR, clean rejection"),
        lambda of: of(f"DNR, rejected of harmless changes, direction {noise:g}"),
        f"l2 {noise:g}",
    )


def _branch(defense, results, name, size, noise):
    # What the network alone leaves stands in the lines of SafetyNet.
    left = f"not fooled, {{}}, linf {size}, {name}".format
    rejected = f"rejected, {{}}, threshold at 5 %, {name}".format
    return Line(
        defense,
        results,
        f"dynamic adversary, linf {size}, threshold at 5 %",
        lambda of: (of(left("the paper's dynamic adversary")), None),
        "every search",
        lambda of: (of(left("strongest of all")), None),
        "",
        lambda of: of(rejected("unchanged")),
        lambda of: of(rejected(noise)),
        noise,
    )


def _codes(defense, results, name, size, noise, plain=PLAIN[0], beside="no defense"):
    rejected = f"rejected, {{}}, 5 % of clean rejected, {name}".format

    def papers(of, guard):
        kind = PAPERS.removeprefix("smoothed, ") if guard in (*PLAIN, CONFIDENCE) else PAPERS
        return 1 - of(f"missed, type {'I' if guard in PLAIN else 'II'}, white box, {kind}, linf {size}, {guard}")

    return Line(
        defense,
        results,
        f"PGD, linf {size}, from the sample",
        lambda of: (papers(of, name), papers(of, plain)),
        "every white-box and black-box search",
        lambda of: tuple(of(f"not fooled, strongest of all attacks, {guard}") for guard in (name, plain)),
        beside,
        lambda of: of(rejected("unchanged")),
        lambda of: of(rejected(noise)),
        noise,
    )


JOINED = "+out-distribution +interpolated"
TWICE = "harmless changes, twice the interpolated samples, at 0.35 and 0.65"
_HARMLESS = ("naive, harmless changes in the training set", ("the worse form of DeepFool",))
LINES = (
    _dustbin("dustbin", "dustbin-mnist", JOINED, "0.1", "sign 0.1"),
    _dustbin("dustbin, trained with noise and twice the blends", "dustbin-mnist", TWICE, "0.1", "sign 0.1", *_HARMLESS),
    _density("rce-mnist", "0.1"),
    _dnr("dnr-mnist", 2.0, 2.0),
    _branch("detector branch, on twins", "detector-mnist", "static", "0.2", "sign 0.1"),
    _branch("detector branch, dynamic", "detector-mnist", "dynamic", "0.2", "sign 0.1"),
    _codes("SafetyNet, one layer", "safetynet-mnist", "Det A", "0.2", "sign 0.1"),
    _codes("SafetyNet, every change", "safetynet-mnist", EVERY_CHANGE, "0.2", "sign 0.1"),
    _codes(
        "the same on a network attacked in training",
        "safetynet-mnist",
        f"{EVERY_CHANGE}, attacked in training",
        "0.2",
        "sign 0.1",
        PLAIN[1],
        "that network",
    ),
    _codes("a confidence threshold on that network", "safetynet-mnist", CONFIDENCE, "0.2", "sign 0.1", PLAIN[1], "that network"),
    _dustbin("dustbin", "dustbin-cifar10", JOINED, "0.01", "sign 0.03"),
    _density("rce-cifar10", "0.01"),
    _dnr("dnr-cifar10", 0.2, 0.3),
    _branch("detector branch, on twins", "detector-cifar10", "static", "2/255", "sign 2/255"),
    _branch("detector branch, dynamic, trained down to 1/255", "detector-cifar10", "dynamic", "2/255", "sign 2/255"),
    _codes("SafetyNet, one layer", "safetynet-cifar10", "Det A", "2/255", "sign 2/255"),
)


def percent(share):
    """A share in percent: nothing that is not whole is told as none or as all."""
    if 0 < share < 0.001 or 0.999 < share < 1:
        return "< 0.1 %" if share < 0.5 else "> 99.9 %"
    return f"{100 * share:.{1 if 0 < share < 0.005 or 0.995 <= share < 1 else 0}f} %"


def _beside(pair, name):
    own, other = pair
    return percent(own) + (f" ({name}: {percent(other)})" if other is not None else "")


def table(directory):
    """A line for each defense whose results are there, as Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", "| " + " | ".join(["---"] * len(_HEAD)) + " |"]
    for line in LINES:
        path = Path(directory) / f"{line.results}.json"
        if path.exists():
            content = json.loads(path.read_text())
            of = Found(content)
            on = {"mnist": "MNIST", "cifar10": "CIFAR-10"}[content["dataset"]]
            cells = [line.defense, on, line.attack, _beside(line.paper(of), line.beside), line.attacker]
            cells += [_beside(line.known(of), line.beside), percent(line.clean(of)), f"{percent(line.noise(of))} of {line.kind}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
