"""The commands of docs/service.md are run in an empty folder. TFDEFENSE_RENEW=1 writes what they print into the page."""

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tfdefense import cli

PAGE = Path(__file__).parents[2] / "docs" / "service.md"
_CONSOLE = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def printed(line):
    """What a command prints, and its exit code where that is not 0."""
    name, *arguments = line.split()
    if name in ("head", "tail"):
        lines, count = Path(arguments[1]).read_text().splitlines(keepends=True), int(arguments[0][1:])
        return "".join(lines[:count] if name == "head" else lines[-count:])
    assert name == "tfdefense"
    done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "100"})
    ended = f"(exit code {done.exit_code})\n" if done.exit_code else ""
    return "\n".join(part.rstrip() for part in done.output.strip().splitlines()) + "\n" + ended


def masked(text):
    """Without numbers: they may differ in a last digit from machine to machine."""
    return re.sub(r"[-\d.,e+]*\d[-\d.,e+]*", "#", re.sub(r" +", " ", text))


@pytest.mark.slow
def test_commands_print_what_the_page_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text()
    exec(_PYTHON.findall(page)[0], {})
    blocks = {}
    for block in _CONSOLE.findall(page):
        commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
        blocks[block] = "".join(f"$ {command}\n{printed(command)}" for command in commands)
    if os.environ.get("TFDEFENSE_RENEW") == "1":
        for old, new in blocks.items():
            page = page.replace(f"```console\n{old}```", f"```console\n{new}```")
        PAGE.write_text(page)
        return
    for old, new in blocks.items():
        assert masked(old) == masked(new), "TFDEFENSE_RENEW=1 writes it anew; then read what has changed"
    everything = "".join(blocks.values())
    assert "no alarm" in everything and "ALARM: drift" in everything and "(exit code 3)" in everything
    assert (tmp_path / "service.prom").exists() and (tmp_path / "service.png").exists()
