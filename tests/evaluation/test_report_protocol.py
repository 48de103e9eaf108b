import dataclasses
import json

import pytest

import tfdefense as td
from evaluation import __main__ as runner
from evaluation import goals, ranking, report, results
from evaluation.context import Context
from tfdefense.reporting import plan as plans

SETUP = dataclasses.replace(ranking.SETUPS["digits"], layers=("features",), codes=("features",), branch="conv", fitted=300)
OPTIONS = {"dataset": "digits", "quick": True, "samples": None, "data_dir": None, "output": None}


@pytest.fixture
def places(classifier, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    for name, path in (("RESULTS", "results"), ("PAGE", "RESULTS.md"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **o: tmp_path / "plain.keras")
    monkeypatch.setitem(ranking.SETUPS, "digits", SETUP)
    monkeypatch.setattr(report, "REPORTED", ("confidence",))
    short = dataclasses.replace(
        plans.PLANS["digits"], linf=(), l2=(0.5, 3), compared={"l2": 0.5}, samples=8, clean=50, steps=2, queries=5, refine=(3, 1)
    )
    monkeypatch.setitem(plans.PLANS, "digits", short)
    monkeypatch.setattr(plans, "_QUICK", {"substitute": (0, 0)})
    return tmp_path


@pytest.mark.slow
def test_reports_of_one_seed_agree_and_others_do_not(places, monkeypatch):
    content = json.loads(runner.execute("report", report, **OPTIONS).read_text())
    of = {row["what"]: row for row in content["rows"]}
    assert of["confidence, parts of two quick reports that differ"]["ours"] == 0
    assert of["confidence, quick, minutes"]["ours"] > 0 and of["confidence, full, minutes"]["samples"] == 8
    assert "Checks that failed" in of["confidence, full, minutes"]["note"] or "No check" in of["confidence, full, minutes"]["note"]

    seeds = iter((0, 1))
    real = td.report
    monkeypatch.setattr(td, "report", lambda *given, **options: real(*given, **options, seed=next(seeds)))
    context = Context("report", "digits", True, None, None, places, places)
    pair = report.twice(context, ranking.build(context, SETUP, ranking.SYSTEMS[1], 0, ranking.Samples(context, SETUP)))
    assert {"about", "attacks", "curves"} <= set(pair["differ"])


def test_its_goals_name_its_rows(tmp_path):
    context = Context("report", "mnist", False, None, None, tmp_path, tmp_path)
    took = {"seconds": 960.0, "samples": 100, "verdict": "Holds.", "failed": []}
    for kind in ("full", "quick"):
        report._add_row(context, "DNR", kind, took)
    table = goals.table({"protocol": "report", "dataset": "mnist", "rows": context.rows})
    assert "| minutes, DNR, full | 16 | at most 15 | **no**" in table and "| minutes, DNR, quick | 16 | at most 2 |" in table
