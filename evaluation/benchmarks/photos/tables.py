"""The tables of the study of photos: a line for each candidate, and what scores cost."""

import functools

from evaluation.benchmarks.photos import candidates, material
from evaluation.runner.markdown import markdown, number


def name_of(row):
    """The name of the candidate that a row is of."""
    shown = () if row.get("shown") == "nothing" else tuple(row.get("shown").split(", "))
    return candidates.Candidate(row.base, shown, tuple(row.system.split(" or ")), row.get("strength")).name


def part(name, results):
    """What each candidate does on one part. The chosen one is bold; a share in brackets is of a kind that the head was shown."""
    lines = []
    for right in results.all(part=name, metric="accuracy"):
        about = {
            "part": name,
            "base": right.base,
            "system": right.system,
            "shown": right.get("shown"),
            "strength": right.get("strength"),
        }
        clean, small = results.all(**about, metric="false-positive rate")
        others = [results.one(**about, ood=each) for each in material.TESTED]
        shares = [_percent(right), _percent(clean)]
        shares += [f"({_percent(row)})" if row.get("seen in training") == "its kind" else _percent(row) for row in others]
        line = [
            right.base,
            right.get("shown"),
            right.get("strength") or results.settings["strength"],
            right.system,
            *shares,
            _percent(small),
        ]
        lines.append([f"**{cell}**" for cell in line] if name_of(right) == results.settings["chosen"] else line)
    head = ("head", "shown", "strength", "rejects by", "right", "clean rejected", *(f"{each} rejected" for each in material.TESTED))
    return markdown((*head, f"of the ten at {material.SMALL} pixels, rejected"), lines)


def _percent(row):
    low, high = row.interval
    return f"{row.value:.1%} [{100 * low:.0f}, {100 * high:.0f}]"


def scores(results):
    """What a decision with each score costs, and a comparison of ten."""
    decisions = [(row.system, row.get("batch"), row.get("stored"), number(row)) for row in results.all(table="speed.scores")]
    head = ("score", "images at once", "training images", "CPU time over the plain network's")
    minutes = [
        (row.get("candidates"), row.get("plan"), row.n, number(row), number(results.one(plan=row.get("plan"), metric="GiB")))
        for row in results.all(metric="minutes")
    ]
    below = ("candidates of `td.compare`", "attack", "held-out images", "minutes", "peak memory, GiB")
    return f"{markdown(head, decisions)}\n\n{markdown(below, minutes)}"


TABLES = {"photos": {"report": functools.partial(part, "report"), "choose": functools.partial(part, "choose")}}
TABLES["photos_speed"] = {"scores": scores}
