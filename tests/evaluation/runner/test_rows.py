"""A row says what it is a number of, is refused when it can't, and is found again by its fields."""

import json
import re

import pytest

from evaluation.papers.rows import ROWS
from evaluation.runner import results, rows
from evaluation.runner.rows import Results, Row, make

COUNTS = {"N": 8, "R": 9, "S": 9, "O": 9, "M": 9}


def found(*made):
    return Results({"rows": [row.plain() for row in made], "settings": {}}, "p-digits")


def test_unknown_names_become_settings():
    row = make("own", "accuracy", 0.5, system="DNR", fitted_on="FGSM", threshold=0.5, note="")
    assert row.settings == {"fitted on": "FGSM", "threshold": 0.5}
    assert row.plain() == {"table": "own", "metric": "accuracy", "value": 0.5, "system": "DNR", "settings": row.settings}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"metric": "not fooled"}, "`metric` of a row must be one of"),
        ({"knowledge": "aware"}, "`knowledge` of a row must be one of"),
        ({"norm": "l3"}, "`norm` of a row must be one of"),
        ({"value": float("nan")}, "`value` must be a finite number"),
        ({"value": "0.5"}, "`value` must be a finite number"),
        ({"value": None}, "must say why in `note`"),
        ({"table": ""}, "must name its `table`"),
    ],
)
def test_row_that_says_too_little_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Row(**{"table": "own", "metric": "accuracy", "value": 0.5} | fields)


def test_rows_are_found_by_their_fields_and_settings():
    of = found(
        make("own", "robust accuracy", 0.9, system="DNR", norm="l2", epsilon=1.0, starts="sample"),
        make("own", "robust accuracy", 0.4, system="DNR", norm="l2", epsilon=2, starts="sample"),
        make("own", "robust accuracy", 0.1, system="DNR", norm="l2", epsilon=2.0, starts="all", steps=100),
        make("own", "accuracy", None, system="NR", note="not measured"),
    )
    assert of(system="DNR", epsilon=2.0, starts="sample") == 0.4, "2 and 2.0 are one size, in JSON too"
    assert of(steps=100) == 0.1 and of(system="NR") is None
    assert of.values("epsilon", starts="sample") == {1.0: 0.9, 2: 0.4}
    assert len(of.all(epsilon=(1, 2), metric="robust accuracy")) == 3
    with pytest.raises(KeyError, match="Expected one row of p-digits .* Found 2, such as: table own, .*epsilon 2"):
        of(epsilon=2)
    with pytest.raises(KeyError, match="Found 0, such as: table own"):
        of(system="RCE")


def test_two_rows_of_one_thing_are_refused():
    row = make("own", "accuracy", 0.5, system="DNR", n=10).plain()
    content = {name: 0 for name in ("protocol", "dataset", "commit", "seconds", "machine", "versions")} | {"settings": {}}
    results.check(content | {"rows": [row]}, "x")
    with pytest.raises(ValueError, match="Two rows of x are of the same thing: .*system DNR"):
        results.check(content | {"rows": [row, row | {"value": 0.6, "n": 20}]}, "x")


def test_committed_results_are_valid_full_runs_of_their_name():
    known = set(ROWS)
    for path in results.RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        results.check(content, path.name)
        assert path.stem == f"{content['protocol']}-{content['dataset']}" and content["settings"]["quick"] is False
        assert {row.get("row", "") for row in content["rows"]} <= known | {""}, "a number under a misspelt id is lost"


def test_every_row_of_the_papers_has_a_number_or_a_reason():
    every = [row.get("row") for path in results.RESULTS.glob("*.json") for row in json.loads(path.read_text())["rows"]]
    for letter, count in COUNTS.items():
        for number in range(1, count + 1):
            name = f"{letter}{number}"
            assert name in every or ROWS[name].reason, f"{name} has neither a number nor a reason"


def test_metrics_say_what_they_are():
    assert all(about and not about.endswith(".") for about in rows.METRICS.values())


def test_each_row_of_the_papers_stands_on_its_page_once():
    page = (results.ROOT / "docs" / "paper_rows.md").read_text()
    assert re.findall(r"^\| ([A-Z]\d) \|", page, re.MULTILINE) == list(ROWS)
    recipes = "".join(path.read_text() for path in sorted((results.ROOT / "training" / "recipes").glob("*.py")))
    named = re.findall(r"paper row (\w+)", recipes)
    assert len(named) > 20 and set(named) <= set(ROWS)
