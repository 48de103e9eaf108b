"""Long trials under faults, and the table of what they gave.

Each is a test marked `torture`. `make test` runs a short version of it; `make torture` runs all at full length, prints one table
and writes it into docs/reliability.md. A test asks how often it is to try, tries, and tells the table:

    pytestmark = pytest.mark.torture

    def test_damaged_files_are_refused(times, tally):
        tried, failures = times(short=5, full=200), []
        for seed in range(tried):
            if not refused(damaged(seed)):
                failures.append(f"seed {seed} was loaded")
        tally("damaged .keras files: loaded or no sentence", tried, failures)

`tally` makes a row (what was tried, how often, failures) and fails the test if there is a failure; it can be called several
times, each time for a row of its own. `times(short=0, full=...)` leaves the test out of `make test`.
"""

import importlib.metadata
import os
import platform
import time
from pathlib import Path

import pytest

from tfdefense._files import write_text

STARTED = time.time()
FULL = bool(os.environ.get("TFDEFENSE_TORTURE"))
BEGIN, END = "<!-- written by `make torture`: begin -->", "<!-- written by `make torture`: end -->"


def pytest_addoption(parser):
    parser.addoption("--table", metavar="PAGE", help="Write the table of the torture tests into this page, between its marks.")


@pytest.fixture
def times():
    """`times(short, full)`: how often to try, in `make test` and in `make torture`."""

    def choose(short, full):
        if not FULL and not short:
            pytest.skip("runs at full length only: make torture")
        return full if FULL else short

    return choose


@pytest.fixture
def tally(request):
    """`tally(what, tried, failures)`: a row of the table. `failures` are sentences; any of them fails the test."""

    def row(what, tried, failures):
        # Kept in the report of the test, which also arrives from the worker processes of pytest-xdist.
        request.node.user_properties.append(("torture", [what, tried, len(failures)]))
        if failures:
            pytest.fail(f"{what}: {len(failures)} of {tried}\n" + "\n".join(failures[:20]), pytrace=False)

    return row


def pytest_terminal_summary(terminalreporter, config):
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    rows = [value for report in reports if report.when == "call" for name, value in report.user_properties if name == "torture"]
    left_out = [report for report in terminalreporter.stats.get("skipped", []) if "reliability" in report.nodeid]
    # A test that broke before it could tell counts as a failure: no row would look like no fault.
    silent = [report for report in reports if report.failed and "reliability" in report.nodeid and not _rows(report)]
    rows += [[f"{report.nodeid.split('::')[-1]} broke", 1, 1] for report in silent]
    if not rows:
        return
    table = ["| What was tried | Times | Failures |", "| --- | ---: | ---: |"]
    table += [f"| {what} | {tried:,} | {failed:,} |" for what, tried, failed in sorted(rows)]
    terminalreporter.section("what was tried, how often, failures" if FULL else "short version; at full length: make torture")
    for line in table:
        terminalreporter.write_line(line)
    page = config.getoption("--table", None)
    if page:
        notes = [f"- Not run: {report.nodeid.split('::')[-1]} ({_reason(report)})" for report in left_out]
        _write(Path(page), [*table, "", _circumstances(), *notes])


def _rows(report):
    return [value for name, value in report.user_properties if name == "torture"]


def _reason(report):
    return str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr).removeprefix("Skipped: ")


def _circumstances():
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("tensorflow", "keras"))
    minutes = (time.time() - STARTED) / 60
    return (
        f"{platform.system()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {versions}; "
        f"{minutes:.0f} minutes on {time.strftime('%Y-%m-%d')}."
    )


def _write(page, lines):
    text = page.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{page} has no place for the table. Expected the lines {BEGIN} and {END}.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(page, "\n".join([before + BEGIN, "", *lines, "", END + after]))
