"""What a defense costs in service: that it is measured on what it says, and how its goals are judged."""

import pytest

import tfdefense as td
from evaluation.benchmarks.service import decisions, fits
from evaluation.benchmarks.service.goals import GOALS
from evaluation.benchmarks.service.tables import TABLES
from evaluation.runner.context import Context
from evaluation.runner.rows import Results


def context(path, **changes):
    values = {"protocol": "service", "dataset": "mnist", "quick": False, "samples": None, "data_dir": None}
    return Context(**(values | {"output": path, "cache": path} | changes))


def not_met(here):
    found = Results({"rows": [row.plain() for row in here.rows], "settings": {}})
    goals = [(goal, goal.measured(found)) for goal in GOALS["service", "mnist"]]
    return [goal.what for goal, value in goals if value is not None and not goal.met(value)], sum(
        value is not None for _, value in goals
    )


def test_goals_are_judged_by_their_rows(tmp_path):
    here = context(tmp_path)
    rows = [
        (decisions.DENSITY, "TensorFlow", 128, "", 1.31),
        (decisions.DENSITY, "ONNX", 1, "", 3.0),
        (decisions.DENSITY, "LiteRT", 128, "", 1.3),
        (decisions.BRANCH, "TensorFlow", 128, "", 1.5),
        (decisions.BRANCH, "TensorFlow", 32, decisions.PHOTOS, 1.6),
    ]
    found = [dict(system=s, runtime=r, batch=b, base=base, value=v, metric="time ratio") for s, r, b, base, v in rows]
    found += [
        {"system": decisions.SCORE, "metric": "time ratio", "value": 1.2, "of": "td.predict", "n": 9},
        {"system": decisions.SCORE, "metric": "CPU seconds", "value": 0.004, "of": "decide", "n": 1},
    ]
    decisions.add_rows(here, found)
    cost = {"seconds": 61.0, "GiB": 0.9, "passes": 1.2, "refused": False, "drawn": 5}
    fits.add_row(here, fits.FITS["density, few"], 10, cost)
    fits.add_row(here, fits.FITS["DNR, many"], 50, cost)
    fits.add_row(here, fits.FITS["DNR, many, refused"], 50, cost | {"refused": True, "seconds": 0.5, "drawn": None})
    assert not_met(here) == (
        [
            "K-density, 10,000 points: a compiled decision over the bare network's",
            "MobileNetV2, detector branch, default width: a decision over the bare network's",
            "bare network's time over that of `td.predict` on many",
            "DNR on 50,000 samples, some drawn: CPU seconds",
        ],
        11,
    )
    results = Results({"rows": [row.plain() for row in here.rows], "settings": {}})
    assert "| DNR | 50 | all | refused | 0.500 |" in TABLES["service"]["fits"](results)
    assert "| MobileNetV2 | detector branch, default width | TensorFlow | 32 |" in TABLES["service"]["decisions"](results)


def test_what_is_timed_is_each_defense(classifier, digits):
    made = decisions.defended(classifier, "conv", digits.x[:60], digits.y[:60])
    kinds = {name: {type(layer).__name__ for layer in model.layers} for name, model in made.items()}
    assert "KernelDensity" in kinds[decisions.DENSITY] and "DetectorBranch" in kinds[decisions.BRANCH]
    density = next(layer for layer in made[decisions.DENSITY].layers if isinstance(layer, td.layers.KernelDensity))
    assert density.adapted and density.max_points == 60
    found = decisions._ratios({decisions.BARE: lambda: None, "twice": lambda: sum(range(10**5))}, 1, 2, batch=1)
    assert [(row["system"], row["batch"]) for row in found] == [("twice", 1)] and found[0]["value"] > 1


@pytest.mark.parametrize("name", ["DNR, few", "SafetyNet, many"])
@pytest.mark.filterwarnings("ignore:.*is fitted on:UserWarning")
def test_fits_are_run_or_refused(name, classifier, tmp_path, monkeypatch):
    monkeypatch.setitem(fits.LAYERS, "digits", ("features",))
    classifier.save(path := tmp_path / "model.keras")
    found = fits.measure(str(path), "digits", None, name, 200)
    assert not found["refused"] and found["seconds"] > 0
    assert found["drawn"] == (100 if name == "SafetyNet, many" else None)
