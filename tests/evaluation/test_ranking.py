import dataclasses
import json

import numpy as np
import pytest

from evaluation import __main__ as runner
from evaluation import ranking, results
from evaluation.context import Context
from tfdefense.reporting import plan as plans

SETUP = dataclasses.replace(ranking.SETUPS["digits"], layers=("features", "scores"), codes=("features",), branch="conv", fitted=300)


@pytest.fixture
def places(classifier, dustbin, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    dustbin.save(tmp_path / "joined.keras")
    for name, path in (("RESULTS", "results"), ("PAGE", "RESULTS.md"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **o: tmp_path / f"{'joined' if 'joined' in name else 'plain'}.keras")
    monkeypatch.setitem(ranking.SETUPS, "digits", SETUP)
    short = dataclasses.replace(plans.PLANS["digits"], linf=(), l2=(0.5, 3), compared={"l2": 0.5}, queries=5, refine=(3, 1))
    monkeypatch.setitem(plans.PLANS, "digits", short)
    monkeypatch.setattr(plans, "_QUICK", {})
    return tmp_path


@pytest.mark.slow
def test_systems_are_calibrated_as_a_whole(places):
    context = Context("ranking", "digits", True, 10, None, places, places)
    samples = ranking.Samples(context, SETUP)
    for system in ranking.SYSTEMS:
        if system.name not in ("detector branch", "SafetyNet + DNR", "RCE", "RCE + dustbin + DNR"):
            continue
        model = ranking.build(context, SETUP, system, 2 if system.joined else 0, samples)
        rejected = float((np.asarray(model(samples.held_out.x)["label"]) == -1).mean())
        assert rejected <= ranking.MAX_REJECTED, system.name
        # Ties of saturated scores may leave less than what is allowed.
        assert rejected > 0.005, system.name
        assert model.output["scores"].shape[-1] == 10


@pytest.mark.slow
def test_the_board_is_ordered_and_tells_what_failed(places, monkeypatch):
    monkeypatch.setattr(ranking, "_QUICK", ("no defense", "dustbin"))
    options = {"dataset": "digits", "quick": True, "samples": 10, "data_dir": None, "output": None, "only": None, "steps": 2}
    content = json.loads(runner.execute("ranking", ranking, **options).read_text())
    rows = [row for row in content["rows"] if row["row"] == "ranking"]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    sizes = [np.inf if row["ours"] is None else row["ours"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert {row["what"] for row in rows} == {"no defense", "dustbin"}
    assert len(content["series"]) == 4 and content["series"][0]["x"] == [0, 0.5, 3]
    plain = next(row for row in rows if row["what"] == "no defense")
    assert plain["clean rejected"] == 0 and plain["not fooled at l2 0.5"] < 0.9


def test_entries_pair_systems_with_their_bases():
    found = ranking.entries(False, None)
    assert len(found) == 2 * len(ranking.SYSTEMS)
    assert {base for system, base in found if system.joined} == {2, 3}
    assert [(s.name, b) for s, b in ranking.entries(True, "DNR")] == [("DNR", 0), ("DNR", 1)]
    with pytest.raises(ValueError, match="`--only` must be one of no defense, confidence"):
        ranking.entries(False, "DRN")


def test_who_stands_at_the_last_size_is_before_who_falls():
    def measured(half, held):
        return {"verdict": {"halves": {"l2": half}}, "curves": {"l2": {"aware": {"held": held}}}}

    found = [measured(None, [0.9]), measured(2.0, [0.3]), measured(2.0, [0.2]), measured(0.0, [0.0])]
    assert sorted(found, key=ranking.place, reverse=True) == found
