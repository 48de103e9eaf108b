"""What `tfdefense evaluate --report` costs, and whether two runs of one seed give one page.

Of defended models as on the board: one that adds hardly anything, one with machines, and one with codes, which is searched through
a surrogate as well. Each gets the full protocol once and the quick one twice, each in a process of its own, as a user runs them:
what one run has computed or compiled is no help to another. Minutes are those of this machine and mean something only where nothing
else ran on it.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation.benchmarks.board import protocol as board
from evaluation.benchmarks.board.systems import CLEAN, System
from evaluation.runner import results
from evaluation.runner.networks import environment

DATASETS = ("mnist", "digits")
REPORTED = ("confidence", "DNR", "SafetyNet")
# Not the small network of the board: a report is to be fast on one of the usual size.
_LARGER = {
    "recipes": {CLEAN.name: "mnist_dnr"},
    "seen": 30_000,
    "layers": ("dense_1", "dense_2", "logits"),
    "codes": ("dense_1", "dense_2"),
}
DIFFER = "parts of two quick reports that differ"
_COMMAND = (sys.executable, "-c", "from tfdefense.cli import main; main()", "evaluate")


def run(context):
    setup = board.SETUPS[context.dataset]
    if context.dataset == "mnist":
        setup = dataclasses.replace(setup, **_LARGER)
    samples = board.Samples(context, setup)
    context.settings["network"] = context.network(setup.recipes[CLEAN.name], **setup.settings, seed=0).parent.name
    for name in REPORTED:
        system = System(name, CLEAN)
        model = context.model(f"model {system.name}", board.build, context, setup, system, 0, samples)
        if not context.quick:
            found = context.part(f"{system.name}, full", lambda model=model: short(*reported(context, model)))
            _add_row(context, system.name, "full", found)
        pair = context.part(f"{system.name}, quick, twice", twice, context, model)
        _add_row(context, system.name, "quick", pair["first"])
        _add_row(context, system.name, "quick, again", pair["again"])
        note = f"differ: {', '.join(pair['differ'])}" if pair["differ"] else "numbers, pictures and page, but for the times"
        context.row("report", "count", len(pair["differ"]), system=system.name, of=DIFFER, note=note)


def _add_row(context, system, plan, found):
    about = {"system": system, "plan": plan, "n": found["samples"], "flags": tuple(found["failed"]), "note": found["verdict"]}
    context.row("report", "minutes", found["seconds"] / 60, **about)


def reported(context, model, *options):
    """What stands in the JSON and in the page of a report that the command line has made."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "defended.keras")
        command = [*_COMMAND, f"{folder}/defended.keras", "--data", context.dataset, "--report", f"{folder}/report", *options]
        command += ["--data-dir", str(context.data_dir)] if context.data_dir else []
        command += ["--samples", str(context.samples)] if context.samples else []
        done = subprocess.run(command, cwd=results.ROOT, env=environment(), stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise ValueError(f"`tfdefense evaluate` failed with exit code {done.returncode}; its error stands above.")
        return json.loads(Path(folder, "report/report.json").read_text()), Path(folder, "report/index.html").read_text()


def twice(context, model):
    (one, page), (other, _) = (reported(context, model, "--quick") for _ in range(2))
    return {"first": short(one), "again": short(other), "differ": differing(one, page, other)}


def differing(one, page, other):
    """Names of what differs between two reports though it is no time."""
    from tfdefense.reporting.page import render

    told = other | {"times": one["times"]}
    differ = [key for key in sorted(one.keys() | told.keys()) if one.get(key) != told.get(key)]
    return differ or ["the page"] * (render(told) != page)


def short(content, page=None):
    return {
        "seconds": content["times"]["total"],
        "samples": content["about"]["plan"]["samples"],
        "verdict": content["verdict"]["line"],
        "failed": content["verdict"]["failed"],
    }
