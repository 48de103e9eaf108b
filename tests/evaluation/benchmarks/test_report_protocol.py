import json

import pytest

import tfdefense as td
from evaluation.benchmarks import report
from evaluation.benchmarks.goals import GOALS
from evaluation.runner import command, goals, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results

OPTIONS = {"dataset": "digits", "quick": True, "samples": 4, "data_dir": None, "output": None}


@pytest.mark.long
def test_each_report_is_made_and_told(classifier, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    for name, path in (("RESULTS", "results"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **o: tmp_path / "plain.keras")
    monkeypatch.setattr(report, "REPORTED", ("confidence",))
    # What a process of its own costs is loading; one size of each norm is enough to differ in.
    made, short = report.reported, ("--linf-sizes", "0.1,0.5", "--l2-sizes", "1,3", "--steps", "2")
    monkeypatch.setattr(report, "reported", lambda *given: made(*given, *short))
    content = json.loads(command.execute("report", report, **OPTIONS).read_text())
    of = Results(content)
    assert of(system="confidence", of=report.DIFFER) == 0
    first, again = (of.one(system="confidence", plan=plan) for plan in ("quick", "quick, again"))
    assert first.value > 0 and first.n == 4 and first.note == again.note and "Holds to" in first.note


def test_what_differs_but_for_the_times_is_named(held_out, classifier, tmp_path):
    small = {"samples": 4, "clean": 40, "steps": 2, "linf": (0.1, 0.5), "l2": (), "refine": (2, 1), "queries": 5}
    td.report(classifier, (held_out.x, held_out.y), tmp_path, **small)
    one, page = json.loads((tmp_path / "report.json").read_text()), (tmp_path / "index.html").read_text()
    same = one | {"times": one["times"] | {"total": one["times"]["total"] + 1}}
    assert report.differing(one, page, same) == []
    assert report.differing(one, page.replace("Holds", "Stands"), same) == ["the page"]
    assert report.differing(one, page, same | {"curves": {}, "about": one["about"] | {"seed": 1}}) == ["about", "curves"]


def test_a_report_that_fails_is_told(classifier, tmp_path):
    context = Context("report", "digits", True, 4, None, tmp_path, tmp_path)
    with pytest.raises(ValueError, match="`tfdefense evaluate` failed with exit code 2"):
        report.reported(context, classifier, "--no-such-option")


def test_its_goals_name_its_rows(tmp_path):
    context = Context("report", "mnist", False, None, None, tmp_path, tmp_path)
    took = {"seconds": 960.0, "samples": 100, "verdict": "Holds.", "failed": []}
    for kind in ("full", "quick"):
        report._add_row(context, "DNR", kind, took)
    found = Results({"rows": [row.plain() for row in context.rows]})
    table = goals.table(GOALS["report", "mnist"], found)
    assert "| DNR: minutes of a full report | 16 | at most 10 | **no**" in table and "quick report | 16 | at most 2 |" in table
