import json
import os
import platform
import re
import subprocess

import pytest

from evaluation.runner import results
from evaluation.runner.pages import render

CONTENT = {
    "protocol": "p",
    "dataset": "digits",
    "commit": "abc",
    "seconds": 3,
    "machine": "2 CPUs",
    "versions": {"keras": "3"},
    "settings": {"quick": False, "size": 3},
    "rows": [
        {"row": "X1", "what": "a|b", "extra": 2, "ours": 0.123456, "paper": None, "samples": 5, "note": ""},
        {"row": "X2", "what": "c", "extra": None, "ours": None, "paper": None, "samples": 5, "note": "none"},
    ],
    "headings": {"ours": "passes"},
}


def test_page_matches_the_results():
    """When this fails, run `python -m evaluation results` and commit the page with the results."""
    assert results.PAGE.read_text() == render(results.RESULTS)


def test_kept_results_are_full_runs_of_their_name():
    for path in results.RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        results.check(content, path.name)
        assert path.name == f"{content['protocol']}-{content['dataset']}.json"
        assert content["settings"]["quick"] is False


def test_changes_that_are_not_committed_have_a_name_of_their_own(tmp_path, monkeypatch):
    monkeypatch.delenv(results.COMMIT, raising=False)
    for name, path in (("ROOT", "."), ("RESULTS", "evaluation/results"), ("PAGE", "evaluation/RESULTS.md")):
        monkeypatch.setattr(results, name, tmp_path / path)
    known, new, written = (tmp_path / name for name in ("known.py", "new.py", "README.md"))
    known.write_text("1")
    written.write_text("of a run")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    found = [results.commit()]
    for file, text in ((written, "of another"), (known, "2"), (known, "3"), (new, "4"), (new, "5")):
        file.write_text(text)
        found.append(results.commit())
    assert "+" not in found[0] and found[1] == found[0], "what runs write is no change of the code"
    assert len(set(found)) == 5 and all(name.startswith(f"{found[0]}+changes.") for name in found[2:])


def test_table_shows_what_there_is(tmp_path):
    (tmp_path / "p-digits.json").write_text(json.dumps(CONTENT))
    page = render(tmp_path)
    assert "| row | what | extra | passes | samples | note |" in page
    assert "| X1 | a\\|b | 2 | 0.1235 | 5 | - |" in page
    assert "| X2 | c | - | - | 5 | none |" in page
    assert "Settings: size: 3." in page


def test_pictures_are_on_the_page(tmp_path):
    (tmp_path / "p-digits.json").write_text(json.dumps(CONTENT))
    assert "<img" not in render(tmp_path)
    (tmp_path / "p-digits").mkdir()
    (tmp_path / "p-digits" / "roc.png").touch()
    assert '<img src="results/p-digits/roc.png" alt="roc"' in render(tmp_path)
    shown = re.findall(r'<img src="(.*?)"', results.PAGE.read_text())
    assert shown and all((results.PAGE.parent / path).exists() for path in shown)


def test_page_changes_with_any_number(tmp_path):
    path = tmp_path / "p-digits.json"
    path.write_text(json.dumps(CONTENT))
    before = render(tmp_path)
    path.write_text(json.dumps(CONTENT | {"rows": [CONTENT["rows"][0] | {"ours": 0.2}]}))
    assert render(tmp_path) != before


def test_curves_are_shown(tmp_path):
    curve = {"row": "X3", "what": "rises", "x": [0, 0.5], "y": [1.0, 2.5], "deviation": [0.0, 0.25]}
    (tmp_path / "p-digits.json").write_text(json.dumps(CONTENT | {"series": [curve]}))
    page = render(tmp_path)
    assert "rises:" in page and "| - | y | 1 | 2.5 |" in page and "| - | deviation | 0 | 0.25 |" in page


@pytest.mark.parametrize("key", ["rows", "machine"])
def test_incomplete_result_is_named(tmp_path, key):
    (tmp_path / "p-digits.json").write_text(json.dumps({k: v for k, v in CONTENT.items() if k != key}))
    with pytest.raises(ValueError, match=f"p-digits.json must have the keys .*Missing: \\['{key}'\\]"):
        render(tmp_path)


def test_row_without_a_note_is_refused():
    row = {"row": "X1", "what": "a", "ours": 1, "paper": None, "samples": 5}
    with pytest.raises(ValueError, match="Each row of x must have the keys"):
        results.check(CONTENT | {"rows": [row]}, "x")


def test_machine_names_no_one():
    text = results.machine()
    assert f"{os.cpu_count()} CPUs" in text
    assert platform.node() not in text and os.sep not in text
