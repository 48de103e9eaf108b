"""The table of the torture tests tells what happened, failures and tests that never ran included."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = """
import pytest

def test_fine(times, tally):
    tally("fine", times(short=2, full=1234), [])

def test_bad(times, tally):
    tally("bad", times(short=2, full=200), ["the third was lost"])

def test_broken(times, tally):
    raise RuntimeError("never got to its row")

def test_elsewhere(times, tally):
    times(short=0, full=1)
    pytest.skip("needs root")
"""


def run(folder, *options, **environment):
    for name, text in (("test_some.py", TESTS), ("pytest.ini", "[pytest]\naddopts = --import-mode=importlib\n")):
        (folder / name).write_text(text)
    (folder / "reliability").mkdir()
    shutil.move(folder / "test_some.py", folder / "reliability")
    shutil.copy(HERE / "conftest.py", folder / "reliability")
    (folder / "page.md").write_text(
        "# Title\n\n" + "<!-- written by `make torture`: begin -->\nold\n<!-- written by `make torture`: end -->\nafter\n"
    )
    command = [sys.executable, "-m", "pytest", "reliability", "-q", "-p", "no:cacheprovider", *options]
    place = os.environ | {"PYTHONPATH": str(HERE.parents[1])} | environment
    return subprocess.run(command, cwd=folder, env=place, capture_output=True, text=True, timeout=120)


def test_table_at_full_length(tmp_path):
    done = run(tmp_path, "--table", "page.md", "-n", "1", TFDEFENSE_TORTURE="1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the third was lost" in done.stdout
    rows = ["| bad | 200 | 1 |", "| fine | 1,234 | 0 |", "| test_broken broke | 1 | 1 |"]
    page = (tmp_path / "page.md").read_text()
    for row in rows:
        assert row in done.stdout.splitlines() and row in page.splitlines()
    assert page.startswith("# Title\n") and page.endswith("after\n") and "old" not in page
    assert "- Not run: test_elsewhere (needs root)" in page.splitlines()


def test_short_version_writes_no_page(tmp_path):
    done = run(tmp_path, TFDEFENSE_TORTURE="")
    assert "| fine | 2 | 0 |" in done.stdout.splitlines()
    assert "old" in (tmp_path / "page.md").read_text()
