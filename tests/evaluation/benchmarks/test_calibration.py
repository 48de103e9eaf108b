"""The protocol that measures the promise of calibrated thresholds."""

import json

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import calibration as protocol
from evaluation.benchmarks.tables import TABLES
from evaluation.runner import command, results
from evaluation.runner.rows import Results
from tfdefense.conformal import thresholds


def test_whole_protocol(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    common = {"dataset": "digits", "quick": True, "samples": None, "data_dir": None, "output": None}
    content = json.loads(command.execute("calibration", protocol, **common).read_text())
    of = Results(content)
    means = of.all(statistic="mean")
    # Of 397 samples 20, 50 and 100 leave more than they are; the plain share is a rule for one detector.
    assert len(means) == 3 * (3 * len(protocol.SYSTEMS) - (len(protocol.SYSTEMS) - 1))
    for size in (20, 50, 100):
        at = {"system": "DNR", "calibrated_on": size}
        for statistic in ("mean", "draws above"):
            plain, ours = (of(**at, rule=rule, statistic=statistic) for rule in ("share of these samples", "mean"))
            assert plain > ours or (statistic, plain) == ("draws above", ours)
    at, sure = {"system": "DNR", "calibrated_on": 100}, "confidence 0.95"
    assert of(**at, rule=sure, statistic="mean") < of(**at, rule="mean", statistic="mean")
    assert of(**at, rule=sure, statistic="draws above") < 0.3
    few = of.one(system="DNR", calibrated_on=50, rule=sure, statistic="mean")
    assert (few.value, few.note, few.get("needed"), few.get("left out")) == (None, "too few samples", 59, 20)
    assert all(row.get("needed") is None for row in of.all(system="DNR", calibrated_on=100))
    assert "| DNR | 50 | confidence 0.95 | - | - | - | 20 | 59 |" in TABLES["calibration"]["rates"](of)
    assert "| DNR | 100 | confidence 0.95 |" in TABLES["calibration"]["rates"](of)


def test_what_is_measured_is_what_calibrate_sets(held_out):
    """The scores of each detector that the protocol works on, and the function it calls, against the model."""
    scores = np.array(protocol.scores_of("digits_cnn.dnr", held_out.x), "float32")
    base = td.base_model(td.zoo.load("digits_cnn.dnr"))
    any_of = td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("non-me")).attach(base)
    told = td.calibrate(any_of, held_out.x[:200])
    found = thresholds(scores[1:, :200])
    above = (scores[1:] > found[:, None]).any(axis=0)
    assert told == pytest.approx(above[:200].mean())
    # Between the sample at a threshold and the next, where the model puts its own, fresh ones may lie.
    assert (td.evaluate(any_of, held_out.x, held_out.y).rejected <= above).all()
