"""The pages of docs/contributing are followed in a copy: the files and lines that they show are put in, and their commands run.

A block of code whose first line is a path is that file. A diff has the path behind `+++`; each line with `+` stands behind the line
before it, one with `-` goes. The examples must not clash: all are put into one copy, whose commands run in one process.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "contributing").glob("*.md"))
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"(?:# |<!-- )(\S+/\S+\.\w+)(?: -->)?\n")
# Runs each command as `python` would; the tests of all pages together, as each run trains its models anew.
RUN = """
import json, runpy, sys
for command in json.loads(sys.argv[1]):
    sys.argv = command[1:]
    try:
        if command[0] == "-m":
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            exec(command[1])
    except SystemExit as end:
        if end.code:
            raise
"""


def blocks(kind):
    return [block for page in PAGES for found, block in _BLOCK.findall(page.read_text()) if found == kind]


def applied(text, diff):
    """The text with the lines of a diff whose unchanged lines only say where."""
    lines, at = text.splitlines(), 0
    for line in diff:
        mark, content = line[:1], line[1:]
        if mark == "+":
            lines.insert(at, content)
            at += 1
        else:
            at = lines.index(content, at) + (mark != "-")
            if mark == "-":
                del lines[at]
    return "\n".join(lines) + "\n"


def test_lines_of_a_diff_go_where_it_says():
    assert applied("a\nb\nc\n", ["-a", "+A", " c", "+d"]) == "A\nb\nc\nd\n"
    with pytest.raises(ValueError, match="'x' is not in list"):
        applied("a\n", [" x", "+d"])


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A copy of the project in which every page was followed, and the modules that they have touched in it."""
    copy, touched = tmp_path_factory.mktemp("copy"), set()
    left_out = shutil.ignore_patterns("runs", "*.png", "*-*.json", "*.partial")
    for name in ("tfdefense", "models", "training", "evaluation", "tests", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=left_out)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for block in (*blocks("python"), *blocks("markdown")):
        path = copy / _PATH.match(block)[1]
        assert not path.exists(), f"{path} is there already: the example needs another name"
        path.write_text(block.split("\n", 1)[1])
        touched.add(path)
    for block in blocks("diff"):
        name, *lines = block.splitlines()
        path = copy / name.removeprefix("+++ ")
        path.write_text(applied(path.read_text(), lines))
        touched.add(path)
    return copy, sorted(path for path in touched if path.suffix == ".py")


def test_what_the_pages_show_is_in_style(followed):
    copy, touched = followed
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *touched], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_commands_of_the_pages_do_what_they_say(followed, tmp_path):
    copy, _ = followed
    commands = [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]
    tests = [command[2:] for command in commands if command[:2] == ["-m", "pytest"]]
    files = sorted({word for command in tests for word in command if word.startswith("tests/")})
    chosen = " or ".join(command[command.index("-k") + 1] for command in tests)
    together = [command for command in commands if command[:2] != ["-m", "pytest"]]
    together.append(["-m", "pytest", "-p", "no:cacheprovider", "-vv", *files, "-k", chosen])
    environment = os.environ | {"PYTHONPATH": str(copy), "TFDEFENSE_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(together)], cwd=copy, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Images('photos', split='test', 120 of 32x32x3" in done.stdout and "Japanese characters" in done.stdout
    assert str(tmp_path / "training" / "letters8_cnn") in done.stdout, "the path of the model"
    for name in ("[gap]", "[multi-targeted]", "[photos]", "feature_norm]", "what_it_costs"):
        assert f"{name} PASSED" in done.stdout, name
    page = (copy / "docs" / "results" / "scores.md").read_text()
    for name in ("confidence", "energy", "gap", "non-me"):
        assert re.search(rf"\| {name} \| 0\.\d+ \|", page), page
