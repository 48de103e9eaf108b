"""Each table and figure of a paper has numbers, or what they would take."""

import importlib
import json

import pytest

from evaluation.papers import counterparts, intervals
from evaluation.papers.counterparts import Counterpart
from evaluation.runner import results, rows
from evaluation.runner.rows import Results
from tfdefense import _cache


def test_intervals_are_the_known_ones():
    assert intervals.wilson(0.5, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4), "by hand"
    assert intervals.wilson(0.0, 50)[0] == pytest.approx(0) and intervals.wilson(0.0, 50)[1] < 0.08
    assert intervals.area(0.5, 100)[1] - 0.5 == pytest.approx(1.96 * (201 / 120_000) ** 0.5, rel=1e-2), "Mann-Whitney"


def test_each_table_and_figure_has_numbers_or_the_hours_that_they_take():
    share = rows.make("t", "error rate", 0.5, n=100).plain()
    cost = {"mnist": ("safetynet --dataset mnist", 2.5)}
    parts = (
        Counterpart("figure 1", "there", lambda found: found.rows),
        Counterpart("figure 2", "missing", lambda found: [], cost),
        Counterpart("figure 3", "impossible", None, 40.0, "no data"),
        Counterpart("figure 4", "a drawing", reason="nothing to measure"),
        Counterpart("figure 5", "of another set", lambda found: [], {"cifar10": cost["mnist"]}),
        Counterpart("figure 6", "of a protocol without results", lambda found: found.rows, cost, protocol="no_such"),
    )
    about = {"protocol": "safetynet", "dataset": "mnist", "settings": {"splits": 3}}
    assert "| measured, by older code |" in counterparts.table(parts, Results({"rows": [share]} | about))
    text = counterparts.table(parts, Results({"rows": [share], "code": _cache.imported()} | about))
    lines = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    assert lines[0][2:] == ["1", "100", "3", "± 0.096", "measured"]
    assert lines[1][-1] == "Not measured: `python -m evaluation safetynet --dataset mnist` does, in about 2.5 hours of CPU time."
    assert lines[2][-1] == "Not measured: no data; about 40 hours of CPU time" and lines[3][-1] == "nothing to measure"
    assert lines[4][-1] == "not on this set" and lines[5][-1] == lines[1][-1]


PAPERS = ("dnr", "rce", "safetynet", "sceneproof", "dustbin", "detector")


@pytest.mark.parametrize("paper", PAPERS)
def test_every_paper_says_where_its_tables_and_figures_are(paper):
    tables = importlib.import_module(f"evaluation.papers.{paper}.tables").TABLES[paper]
    for path in results.RESULTS.glob(f"{paper}-*.json"):
        lines = tables["counterparts"](Results(json.loads(path.read_text()), path.stem)).splitlines()[2:]
        states = [line.rpartition(" | ")[2] for line in lines]
        assert any(state.startswith("measured") for state in states), path
        page = (results.PAGES / f"{paper}.md").read_text()
        assert f"<!-- begin {path.stem}: counterparts -->" in page
