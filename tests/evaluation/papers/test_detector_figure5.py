"""Both topologies, figure 5 as the paper does it, and a classifier trained through its detector."""
# ruff: noqa: F811 - fixtures of another file

import dataclasses

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.detector import dynamic, figure5, fit, regularized, settings, tables
from evaluation.runner.rows import Results
from tests.evaluation.papers.test_detector import BUDGET, PLAN, context, path, setting  # noqa: F401 - two are fixtures


@pytest.mark.slow
def test_both_topologies_are_fitted_and_told_apart(setting):
    three, four = (setting.detector(("fast 0.2",), "conv", depth=depth) for depth in (3, 4))
    assert [fit._branch(one).depth for one in (three, four)] == [3, 4]
    assert setting.detector(("fast 0.2",), "conv") is not three and setting.depth() == 3, "the figure's is the default"
    assert setting.branch(("fast 0.2",), "conv") == setting.branch(("fast 0.2",), "conv", depth=3)
    assert setting.weights(4) - setting.weights(3) == 9 * 8 * 8 + 4 * 8, "one convolution of twice the width, and its norm"
    assert dynamic.under_sigma(setting, "static", 0.0, depth=4) != dynamic.under_sigma(setting, "static", 0.0)


def test_a_budget_says_the_depth_and_the_papers_optimizer(setting, monkeypatch):
    usual, used = setting.branch(("fast 0.2",), "conv"), []
    monkeypatch.setattr(setting, "budget", BUDGET | {"branch_depth": 4})
    assert setting.depth() == 4 and setting.branch(("fast 0.2",), "conv") == setting.branch(("fast 0.2",), "conv", depth=4) != usual
    adam = keras.optimizers.Adam
    monkeypatch.setattr(keras.optimizers, "Adam", lambda rate, **rest: used.append((rate, rest["beta_1"])) or adam(rate, **rest))
    monkeypatch.setattr(setting, "budget", BUDGET | {"as_in_the_paper": True})
    assert setting.branch(("fast 0.2",), "conv") != usual and used == [(BUDGET["learning_rate"], 0.99)]
    assert dynamic.fitting(setting, "static")["batches"] == 2 * BUDGET["batches"], "as many epochs of twice the samples"


def test_a_classifier_is_trained_through_a_detector_that_others_keep(setting, monkeypatch):
    monkeypatch.setattr(regularized, "RATE", 3e-3)
    before = [weight.copy() for weight in setting.base.get_weights()]
    found = {weight: regularized.measured(setting, "fast 0.2", weight, 3) for weight in (None, 1.0)}
    assert all(np.array_equal(a, b) for a, b in zip(before, setting.base.get_weights(), strict=True))
    test = setting.attacked
    assert found[None]["clean"] == td.evaluate(setting.base, test.x, test.y).accuracy
    assert found[1.0]["attacked"] > found[None]["attacked"], "it learns from attacks"


@pytest.mark.long
@pytest.mark.slow
def test_figure_5_is_as_in_the_paper(path, tmp_path):
    assert figure5.BATCHES == 20 * 352
    made = context(tmp_path, protocol="detector_figure5", samples=40)
    made.network = lambda recipe, **options: path
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setitem(settings.PLANS, "digits", dataclasses.replace(PLAN, depths=("image", "conv"), deepfool=1, annealed=(0.3,)))
        patch.setattr(dynamic, "QUICK_SIGMAS", (0.0, 0.45))
        figure5.run(made, width=2, batches=3)
    found = Results({"rows": [row.plain() for row in made.rows]})
    assert {row.epsilon for row in found.all(table="metzen2017.fig5")} == {0.2}, "no larger size before"
    assert {row.get("sigma") for row in found.all(table="metzen2017.fig5", statistic=None)} == {0.0}, "tenths alone"
    assert {row.detector for row in found.all(metric="false-positive rate")} == {"static", "dynamic"}
    steps = {row.detector: row.value for row in found.all(metric="count")}
    assert steps["dynamic"] == steps["static"] / 2
    assert made.settings["convolutions"] == 3 and ", weights " in made.settings["network"]
    found.about |= {"dataset": "digits"}
    for build in tables.TABLES["detector_figure5"].values():
        assert build(found).count("\n") > 1
