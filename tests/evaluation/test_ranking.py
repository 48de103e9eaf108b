import dataclasses
import json

import numpy as np
import pytest

import tfdefense as td
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
        if system.name not in ("detector branch", "DNR + SafetyNet", "RCE", "DNR + RCE + dustbin"):
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
    sizes = [row["ours"] for row in rows]
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


def test_a_part_of_the_board_does_not_take_its_place(places):
    options = {"dataset": "digits", "quick": False, "samples": 10, "data_dir": None, "output": None, "steps": 2}
    with pytest.raises(ValueError, match="`--only` is a part of the board .* another folder with `--output`"):
        runner.execute("ranking", ranking, **options, only="DNR")


def test_where_the_attack_failed_there_is_no_rank(tmp_path):
    def measured(half, held):
        curve = {"sizes": [1], "held": [held], "rejected": [held / 2]}
        verdict = {"halves": {"l2": half}, "failed": []}
        clean = {"right": 0.9, "rejected": 0.05, "wrong": 0.05}
        about = {"compared": {"l2": 1}, "harmless": [{"rejected": 0.1}], "reached": 1}
        return {"verdict": verdict, "curves": {"l2": {"aware": curve}}, "clean": clean} | about

    found = {"beyond": (None, 0.9), "second": (0.9, 0.3), "third": (0.9, 0.2), "first": (0.95, 0.4)}
    context = Context("ranking", "digits", True, 10, None, tmp_path, tmp_path)
    systems = {name: (dataclasses.replace(ranking.SYSTEMS[0], name=name), 0, measured(*pair)) for name, pair in found.items()}
    ranking.add_rows(context, systems, 10)
    assert [(row["what"], row["rank"]) for row in context.rows] == [("first", 1), ("second", 2), ("third", 3), ("beyond", None)]
    assert "the attack failed, no rank" in context.rows[-1]["note"] and context.rows[0]["of these rejected at l2 1"] == 0.2


def test_interval_is_where_the_curve_crosses_shares_that_few_samples_cannot_tell_from_half():
    curve = {"sizes": [1, 2, 3], "held": [0.75, 0.5, 0.25]}
    measured = {"curves": {"l2": {"aware": curve}}, "clean": {"wrong": 0.0}}
    assert ranking.interval(measured, 100) == "1.61 to 2.39"
    assert ranking.interval(measured, 10) == "0.76 to beyond 3"


def test_machines_are_fitted_on_what_no_network_has_seen():
    context = Context("ranking", "mnist", False, 10, None, None, None)
    samples = ranking.Samples(context, ranking.SETUPS["mnist"])
    x = np.arange(60_000, dtype="float32").reshape(-1, 1, 1, 1)
    samples.train = td.data.Images(x, np.zeros(60_000, int), (), "mnist", "train", (0.0, 1.0))
    fitted, held_out = samples.fitted.x.ravel(), samples.held_out.x.ravel()
    assert len(set(fitted)) == 5000 and fitted.min() >= 32_000
    assert held_out.min() == 30_000 and held_out.max() == 31_999
