"""Which tests `make test-fast` leaves out is measured: `make slow-tests` runs all in one process and writes tests/slow.txt."""

import collections
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest

TABLE = Path(__file__).with_suffix(".txt")
SECONDS = 0.3
_HEAD = f"# Tests of {SECONDS} seconds or more. Written by `make slow-tests`: not to be edited.\n"


def listed():
    """Rows of the table by the name of the test."""
    return {row.split(" ", 1)[1].strip(): row for row in TABLE.read_text().splitlines(keepends=True) if row[:1] != "#"}


def clock():
    """CPU time, which another process's work does not change, and half of the time that passed: children may work, or nobody."""
    return np.array([sum(os.times()[:4]), time.perf_counter() / 2])


class Recorder:
    """CPU seconds of each test, with its share of its module's fixtures; those of the session no test is charged for."""

    def __init__(self):
        import tensorflow  # noqa: F401

        self.fixtures, self.tests, self.within = {}, {}, 0

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        if fixturedef.scope == "function":
            return (yield)
        before, outside, self.within = clock(), self.within, 0
        try:
            return (yield)
        finally:
            whole = clock() - before
            if fixturedef.scope != "session":
                self.fixtures[fixturedef] = self.fixtures.get(fixturedef, 0) + whole - self.within
            self.within = outside + whole

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        before, self.within = clock(), 0
        try:
            return (yield)
        finally:
            self.tests[item] = clock() - before - self.within

    def pytest_sessionfinish(self):
        used = {item: [one for one in map(self._latest(item), item.fixturenames) if one in self.fixtures] for item in self.tests}
        users = collections.Counter(itertools.chain(*used.values()))
        found = {item: own + sum(self.fixtures[one] / users[one] for one in used[item]) for item, own in self.tests.items()}
        # Of tests that did not run now, what is known stays.
        ran = {item.nodeid for item in self.tests}
        rows = {name: row for name, row in listed().items() if name not in ran and Path(name.split("::")[0]).exists()}
        rows |= {item.nodeid: f"{max(spent):.1f} {item.nodeid}\n" for item, spent in found.items() if max(spent) >= SECONDS}
        TABLE.write_text(_HEAD + "".join(rows[name] for name in sorted(rows)))

    def _latest(self, item):
        return lambda name: (item._fixtureinfo.name2fixturedefs.get(name) or [None])[-1]
