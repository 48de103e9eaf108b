"""How the detector protocol tells what it has measured: the numbers here are made up."""

import dataclasses
import types

import numpy as np
import pytest

from evaluation.papers.detector import dynamic as detector_dynamic
from evaluation.papers.detector import protocol as detector
from evaluation.papers.detector import settings as detector_plan
from evaluation.runner.context import Context
from evaluation.runner.goals import GOALS

PLAN = dataclasses.replace(detector_plan.PLANS["digits"], linf=(0.1, 0.2), l2=(1.0,), strongest=(0.1, 0.2))


@pytest.fixture
def setting():
    samples = np.zeros((4, 8, 8, 1), "float32")
    return types.SimpleNamespace(
        plan=PLAN,
        adversaries=detector_plan.adversaries(PLAN),
        layers=["image", "conv"],
        budget={"steps": 4},
        test=(samples, np.zeros(4)),
        samples={"whole": (samples, np.zeros(4), 1.0)},
        attacked=types.SimpleNamespace(x=samples),
    )


def context(folder):
    return Context("detector", "digits", True, None, None, folder, folder / "parts", commit="abc")


def test_rows_of_the_strongest_tell_of_each_size(setting, tmp_path):
    rows = [[True, False, False, False], [True, True, False, False]]
    measured = {"static": {"strongest": {title: rows for title in detector_dynamic.TOLD}}}
    detector_dynamic._strongest_rows(made := context(tmp_path), setting, measured, tmp_path)
    told = {row["what"]: row for row in made.rows}
    for what in detector_dynamic.TOLD.values():
        assert [told[f"not fooled, {what}, linf {size}, static"]["ours"] for size in (0.1, 0.2)] == [0.75, 0.5]
    assert "an upper limit" in told["not fooled, strongest of all, linf 0.2, static"]["note"]
    assert (tmp_path / "strongest.png").exists()


def test_rows_of_transfer_tell_which_was_fitted_and_which_tested(setting, tmp_path):
    names = list(setting.adversaries)
    found = {a: {b: 0.5 + 0.01 * i + 0.001 * j for j, b in enumerate(names)} for i, a in enumerate(names)}
    accuracy = dict.fromkeys(names, 0.2) | {"fast 0.1": 0.9}
    sizes = detector.chosen_sizes(setting, accuracy)
    detector._transfer_rows(made := context(tmp_path), setting, found, sizes, detector.weak_ones(accuracy, sizes), tmp_path)
    told = {row["what"]: row["ours"] for row in made.rows}
    for fitted, tested in (("fast 0.1", "fast 0.2"), ("fast 0.2", "iterative linf 0.1"), ("iterative l2 1", "fast 0.2")):
        assert told[f"detectability, fitted on {fitted}, tested on {tested}"] == found[fitted][tested]
    assert sizes["fast"] == "fast 0.2" and not any("fast 0.1, tested on iter" in what for what in told)
    goal = next(goal for goal in detector_goals("mnist") if goal.what.startswith("fitted on iterative linf"))
    assert goal.measured(told) == found["iterative linf 0.1"]["fast 0.2"]


def test_rows_of_one_branch_for_all_give_the_least(setting, tmp_path):
    names = list(setting.adversaries)
    accuracy = {name: 0.2 if name in ("fast 0.2", "iterative l2 1") else 0.8 for name in names}
    sizes = detector.chosen_sizes(setting, accuracy)
    mixture = {name: 0.9 - 0.01 * i for i, name in enumerate(names)}
    alone = {name: 0.7 + 0.01 * i for i, name in enumerate(names)}
    fitted = {sizes["iterative l2"]: alone, detector.MIXED: mixture}
    detector._mixture_rows(made := context(tmp_path), setting, fitted, sizes, accuracy)
    told = {row["what"]: row["ours"] for row in made.rows}
    five, strong = "least detectability of the five", "least detectability of all that take accuracy under 0.3"
    for title, found in (("a mixture of the five", mixture), ("iterative l2 1 alone", alone)):
        assert told[f"one branch fitted on {title}: {five}"] == min(found[name] for name in sizes.values())
        assert told[f"one branch fitted on {title}: {strong}"] == min(found["fast 0.2"], found["iterative l2 1"])
        assert told[f"one branch fitted on {title}: detectability, fast 0.1"] == found["fast 0.1"]
    goal = next(goal for goal in detector_goals("mnist") if "better of two" in goal.what)
    assert goal.measured(told) == min(mixture[name] for name in sizes.values())


def test_rows_of_the_stages_tell_of_the_worst_sigma_that_counts(setting, tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, annealed=(0.4, 0.3))
    monkeypatch.setattr(setting, "plan", plan)

    def measured(setting, name, sigma, size):
        assert name == "dynamic" and round(10 * sigma, 6) % 1 == 0, "the paper has tenths"
        detected = None if sigma > 0.75 else size + abs(sigma - 0.5)
        return {"detectability": detected, "detected": detected, "successful": 40 - int(10 * sigma), "accuracy": 0.1}

    monkeypatch.setattr(detector_dynamic, "under_sigma", measured)
    detector_dynamic._annealed_rows(made := context(tmp_path), setting)
    for size, row in zip((0.4, 0.3), made.rows, strict=True):
        assert row["what"].endswith(f"dynamic, trained and attacked at {size}") and row["ours"] == size
        assert row["samples"] == 35 and row["note"] == "at 0.5; 8 of 11 count"
    assert [curve["x"] for curve in made.series] == [[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]] * 2


def test_detectors_are_compared_with_and_without_harmless_changes(setting, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(detector_dynamic, "_measured", lambda *rest: asked.append(rest[-1]) or {})
    monkeypatch.setattr(detector_dynamic, "_strongest_rows", lambda *_: None)
    for mixed, harmless in ((True, True), (False, True), (False, False)):
        monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, mixed=mixed))
        detector_dynamic.add_rows(context(tmp_path), setting, 4, tmp_path, harmless)
    assert asked[0] == list(detector_dynamic.DETECTORS) and len(asked[0]) == 5
    assert asked[1] == [name for name in asked[0] if name != detector_dynamic.MIXTURE]
    assert asked[2] == list(detector_dynamic.PLAIN)


def test_rows_of_the_control_tell_threshold_and_changes(setting, tmp_path):
    names = ("static", "static with harmless changes")
    changes = {"unchanged": 0.01, "sign 0.1": 0.4, "shift 1": 0.2}
    one = {"fitting": {"steps": 7, "seconds": 60.0}, "control": {"half": changes}}
    one["control"]["calibrated"] = {change: share / 2 for change, share in changes.items()}
    detector_dynamic._control_rows(made := context(tmp_path), setting, dict.fromkeys(names, one))
    told = {row["what"]: row for row in made.rows}
    for name in names:
        assert told[f"rejected, sign 0.1, decision at a probability of one half, {name}"]["ours"] == 0.4
        assert told[f"rejected, sign 0.1, threshold at 5 %, {name}"]["ours"] == 0.2
        assert told[f"rejected, shift 1, threshold at 5 %, {name}"]["note"].endswith("; not among the changes it was fitted on")
        seen = "among" if "harmless" in name else "not among"
        assert told[f"rejected, sign 0.1, threshold at 5 %, {name}"]["note"].endswith(f"; {seen} the changes it was fitted on")
        assert told[f"steps of 128 samples that fitted it, {name}"]["ours"] == 7


def detector_goals(dataset):
    return GOALS["detector", dataset]


def test_one_branch_is_judged_on_all_that_work():
    from evaluation.runner.goals import detector as goals

    least = "one branch fitted on {}: least detectability of {}".format
    of = {least("a", "the five"): 0.9, least("a", "all that take accuracy under 0.3"): 0.7, least("b", "the five"): 0.8}
    assert goals._one_branch(of | {least("b", "all that take accuracy under 0.3"): None, "one branch fitted on b: x": 0.1}) == 0.8


def test_what_differs_in_dynamic_training_is_told():
    assert detector_dynamic.told_of(PLAN, 100) == {}
    found = detector_dynamic.told_of(dataclasses.replace(PLAN, annealed=(0.4, 0.3), fighting=5), 100)
    assert found["sizes of dynamic training"].startswith("0.4, 0.3, 0.2 in turn, 34 batches")
    assert found["steps of its adversary"].startswith("5 in training, 10 under test")
