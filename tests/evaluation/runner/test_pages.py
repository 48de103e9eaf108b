"""Pages are prose around tables that are made from the results; a number that changes changes its page."""

import contextlib
import csv
import dataclasses
import importlib
import inspect
import io
import json
import os
import platform
import re
import subprocess

import pytest

from evaluation.runner import goals, pages, results, summary
from evaluation.runner.markdown import number, pivot
from evaluation.runner.protocols import protocols
from evaluation.runner.rows import BOUNDED, METRICS, Results, make
from tfdefense import _cache

CONTENT = {
    "protocol": "calibration",
    "dataset": "mnist",
    "commit": "abc",
    "seconds": 3,
    "machine": "2 CPUs",
    "versions": {"keras": "3"},
    "settings": {"quick": False, "size": 3},
    "rows": [],
}


@pytest.fixture
def found():
    made = [
        make("own", "accuracy", value, system=s, epsilon=e, n=10) for s, e, value in (("a", 1, 0.5), ("a", 2, 0.25), ("b", 1, 0.75))
    ]
    return Results(CONTENT | {"rows": [row.plain() for row in made]}, "calibration-mnist")


def test_pages_match_the_results():
    """When this fails, run `python -m evaluation results` and commit what it wrote."""
    stale = [path.name for path, text in pages.files() if not path.exists() or path.read_text() != text]
    assert stale == []


def test_every_result_is_on_a_page_and_every_picture_exists():
    text = "".join(path.read_text() for path in results.PAGES.glob("*.md"))
    for path in results.RESULTS.glob("*.json"):
        assert f"<!-- begin {path.stem}: about -->" in text, f"{path.stem} is on no page"
        assert f"({path.stem}.csv)" in text, f"no page links the rows of {path.stem}"
    index = (results.PAGES / "README.md").read_text()
    for page in results.PAGES.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, f"README.md does not list {page.name}"
        for target in re.findall(r'src="([^"]+)"|\]\(([^)#]+)\)', page.read_text()):
            target = "".join(target)
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_table_of_the_papers_has_its_command():
    lines = [line.split(" | ") for line in summary.commands(results.RESULTS).splitlines()[2:]]
    assert all(float(hours.removesuffix(" |")) > 0 for *_, hours in lines)
    (tables,) = {parts for paper, parts, command, _ in lines if "rce --dataset mnist" in command}
    assert {"table 1", "table 2", "table 3", "table 4"} <= set(tables.split("; ")) and "(rce.md)" in lines[3][0]
    for _, _, command, _ in lines:
        name, *options = command.strip("`").removeprefix("python -m evaluation ").split()
        module = importlib.import_module(protocols()[name][0])
        assert "--dataset" not in options or options[options.index("--dataset") + 1] in module.DATASETS, command
        own = {*inspect.signature(module.run).parameters, "dataset", "samples", "workers"}
        assert {word[2:].replace("-", "_") for word in options if word.startswith("--")} <= own, command


def test_only_what_is_between_the_marks_is_made_anew(tmp_path, monkeypatch, found):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    page = "Prose.\n<!-- begin calibration-mnist: about -->\nold\n<!-- end -->\nMore prose."
    assert "Not measured yet." in pages.rendered(page)
    (tmp_path / "calibration-mnist.json").write_text(json.dumps(found.about | {"rows": []}))
    text = pages.rendered(page)
    assert text.startswith("Prose.\n<!--") and text.endswith("<!-- end -->\nMore prose.") and "old\n" not in text
    assert "commit abc" in text and "| size | 3 |" in text and pages.rendered(text) == text
    with pytest.raises(ValueError, match="calibration has the tables rates. Received 'rats'"):
        pages.rendered(page.replace("about", "rats"))


def test_pivot_lays_rows_out_as_a_table(found):
    assert pivot(found.rows, "system", "epsilon") == (
        "| system | 1 | 2 |\n| --- | --- | --- |\n| a | 0.500 | 0.250 |\n| b | 0.750 | - |"
    )

    def half(row):
        return row.value * 2

    shown = "| system | half | 1 or 2 |\n| --- | --- | --- |\n| a | 1 | 0.500 |\n| a | 0.5 | 0.250 |\n| b | 1.5 | 0.750 |"
    assert pivot(found.rows, ("system", half), lambda row: "1 or 2") == shown
    with pytest.raises(ValueError, match="Two rows belong into one cell: .*system a"):
        pivot(found.rows, "metric", "system")


def test_number_shows_what_it_is_worth():
    row = make("own", "accuracy", 0.51234, deviation=0.01, paper=0.6, flags=("gradients",))
    assert number(row) == "≤ 0.512 ± 0.010 (paper 0.600)"
    bounds = [number(dataclasses.replace(row, flags=(), paper_bound=bound)) for bound in (">=", "~")]
    assert bounds == ["0.512 ± 0.010 (paper ≥ 0.600)", "0.512 ± 0.010 (paper about 0.600)"]
    assert number(make("own", "accuracy", 0.5, interval=(0.4, 0.6))) == "0.500 [0.400, 0.600]"
    assert number(None) == "-" and number(make("own", "seconds", 1234.5)) == "1234"
    minutes = make("own", "minutes", 0.5, flags=("gradients",))
    assert number(minutes) == "0.500", "no attack bounds it"
    assert set(BOUNDED) < set(METRICS)


def test_csv_holds_every_row_and_setting():
    found = Results(CONTENT | {"rows": [make("own", "accuracy", 0.5, fitted_on="a, b", flags=("x", "y")).plain()]})
    (line,) = csv.DictReader(io.StringIO(pages.as_csv(found)))
    assert (line["value"], line["fitted on"], line["flags"], line["paper"]) == ("0.5", "a, b", "x; y", "")


def test_page_says_when_the_code_is_another():
    code = _cache.imported()
    name = "evaluation/runner/pages.py"
    assert pages.age({"code": code}) == "Made by the code that is here."
    assert f"of the {len(code)} modules that made these results 1 have changed" in pages.age({"code": code | {name: "another"}})
    assert "before the modules of a run were recorded" in pages.age({})


def test_goals_are_met_or_say_why(found):
    of_a = goals.Goal("a", lambda of: of(system="a", epsilon=1), least=0.5, remark="why not")
    missing = goals.Goal("c", lambda of: of(system="c"), least=0.5)
    short = goals.Goal("b", lambda of: of(system="b"), most=0.5, remark="why not")
    assert goals.table([of_a, missing, short, goals.Goal("d", lambda of: 0.125)], found).splitlines()[2:] == [
        "| a | 0.5 | at least 0.5 | yes | - |",
        "| c | - | at least 0.5 | not measured | - |",
        "| b | 0.75 | at most 0.5 | **no** | why not |",
        "| d | 0.125 | - | - | - |",
    ]


@pytest.mark.parametrize("key", ["rows", "machine"])
def test_incomplete_result_is_named(key):
    with pytest.raises(ValueError, match=f"x must have the keys .*Missing: \\['{key}'\\]"):
        results.check({k: v for k, v in CONTENT.items() if k != key}, "x")


def test_changes_that_are_not_committed_have_a_name_of_their_own(tmp_path, monkeypatch):
    for name, path in (("ROOT", "."), ("RESULTS", "evaluation/results"), ("PAGES", "docs/results")):
        monkeypatch.setattr(results, name, tmp_path / path)
    known, new, written = (tmp_path / name for name in ("known.py", "new.py", "README.md"))
    known.write_text("1")
    written.write_text("of a run")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    seen = [results.commit()]
    for file, text in ((written, "of another"), (known, "2"), (known, "3"), (new, "4"), (new, "5")):
        file.write_text(text)
        seen.append(results.commit())
    assert "+" not in seen[0] and seen[1] == seen[0], "what runs write is no change of the code"
    assert len(set(seen)) == 5 and all(name.startswith(f"{seen[0]}+changes.") for name in seen[2:])


def test_machine_names_no_one():
    text = results.machine()
    assert f"{os.cpu_count()} CPUs" in text
    assert platform.node() not in text and os.sep not in text


def test_goals_find_their_rows():
    """A row that was renamed would leave a goal without its number."""
    for path in results.RESULTS.glob("*.json"):
        found = Results.load(path)
        try:
            module = importlib.import_module(f"{pages.package(found)}.goals")
        except ModuleNotFoundError:
            continue
        for goal in module.GOALS.get((found.about["protocol"], found.about["dataset"]), []):
            # A look-up of no row raises; a row without a number says why in its note.
            with contextlib.suppress(TypeError):
                assert goal.value(found) is not None or goal.remark, goal.what
