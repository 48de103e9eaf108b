import json

import pytest

from evaluation.benchmarks import nearest as protocol
from evaluation.benchmarks import tables
from evaluation.benchmarks.goals import GOALS
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results


def test_share_counts_samples_that_are_no_farther_and_leaves_clean_errors_out(tmp_path):
    context = Context("nearest", "digits", False, None, None, tmp_path, tmp_path)
    # No farther, just so, farther, found by the sweep alone, by neither; and one that was wrong already.
    found = {"nearest": [0.9, 1.02, 1.03, None, None, 0.0], "sweep": [1.0, 1.0, 1.0, 2.0, None, 0.0], "iterations": [10.0, 40.0]}
    protocol.add_rows(context, "model", "l2", found)
    rows = Results({"rows": [row.plain() for row in context.rows]})
    share = rows.one(metric="no farther")
    assert share.value == pytest.approx(3 / 5) and share.n == 5
    assert rows(metric="median distance", attack="minimum norm") == 1.03
    *_, line = tables.nearest(rows).splitlines()
    assert line.endswith("| 10 | 40 | 0.25 |")
    linf, l2, iterations = (goal.measured(rows) for goal in GOALS["nearest", "mnist"])
    assert linf is None and (l2, iterations) == (pytest.approx(0.6), 0.25)


@pytest.mark.long
def test_one_run_is_compared_with_the_suite(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "UNTRACKED", tmp_path)
    # Each search is compiled for both norms; the longer suite has its own tests.
    monkeypatch.setattr(protocol, "SUITE", "quick-1")
    about = {"dataset": "digits", "quick": True, "samples": 6, "data_dir": None, "output": None}
    found = Results(json.loads(command.execute("nearest", protocol, **about, only="digits_cnn.dnr").read_text()))
    for norm in ("linf", "l2"):
        own, sweep = (found(metric="median distance", attack=attack, norm=norm) for attack in ("minimum norm", "sweep"))
        assert 0 < own <= 1.05 * sweep
        assert found(metric="iterations", attack="minimum norm", norm=norm) > 100
