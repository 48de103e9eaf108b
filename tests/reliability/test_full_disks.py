"""A disk that fills up while a file on it is replaced: the old one stays whole, nothing else stays, and the user is told."""

import json
import os
import random
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from tests.reliability.children import Children, ended
from tests.reliability.test_kills import NAMES, commands, content, filled, restore
from tfdefense import cli

pytestmark = [pytest.mark.torture, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
SHARE = dict(zip(NAMES, (4, 3, 3, 3, 4, 3), strict=True))
FOLDER = "export to a SavedModel folder"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 24 MiB with a defended model and old outputs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield filled(disk / "place")
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


class Filler:
    """Leaves a random share of the room that the write needs, and looks at what became of it.

    The first copy finds room enough: it shows what is needed.
    """

    def __init__(self, path, tries):
        self.path, self.tries, self.random = path, tries, random.Random(path.name)
        self.ballast = path.parent.parent / "ballast"
        self.old, self.needed, self.tried, self.failures = content(path), None, 0, []
        self.report = path.parent.parent.parent / "report.json"

    def wanted(self):
        self.ballast.unlink(missing_ok=True)
        if self.needed is not None and self.tried < self.tries:
            self.fill()
        return self.tried < self.tries

    def fill(self):
        free = shutil.disk_usage(self.ballast.parent).free
        left = int(self.random.uniform(0, 0.95) * self.needed)
        self.ballast.write_bytes(bytes(free - left))

    def failed(self, result):
        self.report.write_text(json.dumps({"code": result.exit_code, "said": result.stderr}))

    def meet(self, child):
        code = ended(child)
        if self.needed is None:
            self.needed = len(content(self.path))
            restore(self.path, self.old)
        elif code == 0:
            raise RuntimeError(f"The disk was not full: {self.path.name} was written.")
        else:
            found = json.loads(self.report.read_text())
            self.judge(found["code"], found["said"])

    def judge(self, code, said):
        self.tried += 1
        about = f"disk {self.tried}, {self.path.name}: "
        if content(self.path) != self.old:
            self.failures.append(about + "the old content is lost or truncated")
        if code != 2 or said.strip() != f"error: {self.path}: No space left on device. What was there before is unchanged.":
            self.failures.append(about + f"exit code {code}, said {said!r}")
        hidden = [name for name in os.listdir(self.path.parent) if name.startswith(".")]
        if hidden:
            self.failures.append(about + f"left behind: {hidden}")


@pytest.mark.parametrize("name", [name for name in NAMES if name != FOLDER])
def test_full_disk_loses_nothing(name, small_disk, times, tally, monkeypatch):
    argv, path = commands(small_disk)[name]
    filler = Filler(path, times(short=2, full=SHARE[name]))
    Children(filler.wanted, filler.meet, filler.failed).run(argv, monkeypatch)
    tally(f"full disks, {name}", filler.tried, filler.failures)


def test_full_disk_leaves_the_saved_model(small_disk, times, tally):
    argv, path = commands(small_disk)[FOLDER]
    filler = Filler(path, times(short=1, full=SHARE[FOLDER]))
    filler.needed = 5 * 2**20
    while filler.wanted():
        result = CliRunner().invoke(cli.app, [str(argument) for argument in argv])
        filler.judge(result.exit_code, result.stderr)
    tally(f"full disks, {FOLDER}", filler.tried, filler.failures)
