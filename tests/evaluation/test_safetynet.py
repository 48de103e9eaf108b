import dataclasses
import importlib
import json
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.speed import codes as speed_codes
from evaluation.papers.detector.settings import PLANS
from evaluation.papers.safetynet import fit as safetynet_fit
from evaluation.papers.safetynet import measure as safetynet_attacks
from evaluation.papers.safetynet import numbers as safetynet_paper
from evaluation.papers.safetynet import protocol as safetynet
from evaluation.runner import results
from evaluation.runner.context import Context
from tests.evaluation.test_detector import path  # noqa: F401 - a fixture
from tfdefense.layers import ClasswiseDetectorSVM, DetectorSVM

PLAN = dataclasses.replace(PLANS["digits"], depths=("conv", "conv_1"), usual=0, deepfool=1, linf=(0.2,), l2=(1.0,))
CODES = safetynet_fit.Codes(("features", "conv_1", "conv"), 0.2, {}, 300)
BUDGET = {"depth": None, "width": 2, "epochs": 1, "batches": 1, "learning_rate": 3e-3, "steps": 4, "short": False}
BUDGET |= {"fitted": 400, "pairs": 300, "strongest": 12, "asked": 6, "queries": 300, "against": 40}


def context(folder, path, **changes):  # noqa: F811
    values = {"protocol": "safetynet", "dataset": "digits", "quick": True, "samples": None, "data_dir": None, "output": folder}
    made = Context(**(values | {"kept": folder / "parts", "commit": "abc"} | changes))
    made.network = lambda recipe, **options: path
    return made


@pytest.fixture(scope="module")
def setting(path, digits, held_out, tmp_path_factory):  # noqa: F811
    attacked, rest = held_out.divide(60)
    here = context(tmp_path_factory.mktemp("safetynet"), path)
    found = safetynet_fit.Guards(here, PLAN, CODES, path, BUDGET, (digits.take(slice(400)), attacked, rest))
    found.chosen = ("fast 0.2", "iterative linf 0.2")
    return found


def machines(model):
    return [layer for layer in model.layers if isinstance(layer, (DetectorSVM, ClasswiseDetectorSVM))]


def test_paper_numbers_are_where_they_belong():
    assert safetynet_paper.missed(safetynet_paper.TYPE_TWO, "Det A").endswith("0.163 of fakes, 0.037 of reals")
    assert safetynet_paper.missed(safetynet_paper.TRANSFER["one with a branch"], safetynet_fit.ALL).endswith(
        "0.091 of fakes, 0 of reals"
    )
    assert safetynet_paper.missed(safetynet_paper.TYPE_ONE, "plain").endswith("0.328 of fakes, 0.553 of reals")
    assert safetynet_paper.missed(safetynet_paper.TYPE_ONE, "Det B") == ""
    assert set(safetynet_paper.TRANSFER) == set(safetynet_attacks.TRANSFERRED)


@pytest.mark.parametrize("dataset", safetynet.DATASETS)
def test_every_layer_that_is_watched_is_there(dataset):
    from training.recipe import find

    plan, codes = PLANS[dataset], safetynet_fit.CODES[dataset]

    def network(name):
        recipe = find(name)
        file, function = recipe.model.split(":")
        return getattr(importlib.import_module(f"models.{file}"), function)(**recipe.model_options)

    model = network(plan.recipe)
    here = types.SimpleNamespace(kept=Path("parts"))
    guards = safetynet_fit.Guards(here, plan, codes, None, {"depth": plan.depth}, (None, None, None))
    assert len(set(guards.watched)) == 3
    if codes.hardened:
        assert network(codes.hardened).get_config()["layers"] == model.get_config()["layers"], "the layers are to be the same"
    defended = td.SafetyNet(guards.watched).attach(model)
    assert len(machines(defended)) == 3
    one = keras.Model(model.inputs[0], [model.get_layer(name).output for name in guards.watched])
    assert all(part.numpy().min() >= 0 for part in one(np.full((1, *model.inputs[0].shape[1:]), 0.5, "float32"))), "no ReLU"


def test_verdict_counts_the_same_samples_and_leaves_chance_out():
    white = np.array([True, True] + 8 * [False])
    black = np.array([True, True] + 6 * [True] + 2 * [False])
    words = safetynet_attacks.verdict(white, black)
    assert words.startswith("black box worse for the defender than white box: gradients are masked")
    assert "0.200 against 0.800 missed; 6 of 10 fall to the black box alone" in words
    assert "undecided" in safetynet_attacks.verdict(white, black & (np.arange(10) < 7)), "five of five are not enough"
    assert "gradients are not masked" in safetynet_attacks.verdict(black, white)
    assert "no sign of masked gradients" in safetynet_attacks.verdict(white, white)
    assert "neither gets past it: undecided" in safetynet_attacks.verdict(white & False, white & False)


def test_strongest_is_the_union_over_attacks_of_the_same_samples():
    never = dict.fromkeys((*safetynet_attacks.OPEN, *safetynet_attacks.BLACK), [False] * 8)
    first, second = [True] + [False] * 7, [False, True, False, False]
    late = [False] * 5 + [True] + [False] * 2  # of a sample that no other black box was asked about
    found = {safetynet_attacks.PAPERS: first, "outputs": second, safetynet_attacks.TRANSFERRED[1]: late}
    rows = list(safetynet_attacks.summary(never | found, "Det A"))
    assert [row["ours"] for row in rows] == [0.875, 0.75, 0.625, 0.0]
    assert [row["samples"] for row in rows] == [8, 4, 8, 4]
    own = {safetynet_attacks.ON_A_BRANCH: [True] * 6 + [False] * 2}
    assert next(safetynet_attacks.summary(never | own, "branch"))["ours"] == 0.25


def test_nets_are_fitted_as_they_say(setting):
    plain = setting.net("Det A", ("fast 0.2",))
    x, y, _ = setting.samples["train"]
    pairs = min(BUDGET["pairs"], len(x))
    by_hand = td.SafetyNet(["features"], threshold=0.0).attach(setting.base)
    td.adapt(by_hand, x[:pairs], y[:pairs], adversarial=setting.twins("fast 0.2", "train")[:pairs], max_rejected=None)
    # A unit may lie on its threshold to the last digit.
    assert np.isclose(plain(x)["suspicion"], by_hand(x)["suspicion"], atol=1e-3).mean() > 0.98
    raw = setting.net("Det A, activations as they are", ("fast 0.2",))
    assert not any(isinstance(layer, td.layers.QuantizedReLU) for layer in raw.layers)
    every = setting.net(f"{safetynet_fit.ALL}, by class", ("fast 0.2",))
    assert [type(layer).__name__ for layer in machines(every)] == ["ClasswiseDetectorSVM"] * 3


def test_a_net_may_be_fitted_on_more_pairs_than_the_others(setting, monkeypatch):
    seen = []
    monkeypatch.setattr(td, "adapt", lambda model, x, y, adversarial, **_: seen.append((len(x), len(y), len(adversarial))))
    monkeypatch.setitem(safetynet_fit.NETS, "more", safetynet_fit.Net("A", pairs=310))
    monkeypatch.setitem(safetynet_fit.NETS, "most", safetynet_fit.Net("A", pairs=7000))
    for name in ("Det A", "more", "most"):
        setting.net(name, ("fast 0.2",))
    there = len(setting.samples["train"][0])
    assert seen == [(count,) * 3 for count in (300, 310, there)] and there > 310
    assert [setting.pairs(name) for name in ("Det A", "more", "most", "branch")] == [300, 310, there, there]


def test_dynamic_net_also_learns_what_evaded_it(setting, monkeypatch):
    seen = []
    adapt = td.adapt
    monkeypatch.setattr(td, "adapt", lambda *args, **named: seen.append((args[1], named["adversarial"])) or adapt(*args, **named))
    monkeypatch.setitem(safetynet_fit.NETS, "dynamic", safetynet_fit.Net("A", rounds=1, harmless=True))
    defended = setting.net("dynamic", ("fast 0.2",))
    (clean, first), (_, second) = seen
    assert len(first) == 300 < len(second) <= 340
    np.testing.assert_array_equal(second[:300], first)
    x = setting.samples["train"][0][:300]
    changed = np.abs(clean - x).max((1, 2, 3)) > 0
    assert not changed[::2].any() and changed[1::2].mean() > 0.9
    old = td.SafetyNet(["features"], threshold=0.0).attach(setting.base)
    adapt(old, clean, setting.samples["train"][1][:300], adversarial=first, max_rejected=None)
    caught = [(model(second[300:])["suspicion"].numpy() > 0).mean() for model in (old, defended)]
    assert caught[0] < 0.2 and caught[1] > caught[0] + 0.3


def test_detection_is_told_at_both_thresholds(setting):
    found = safetynet.detection(setting, "Det B", ("iterative linf 0.2",), ["fast 0.2", "iterative linf 0.2"])
    assert found["half"]["iterative linf 0.2"] > 0.75 and found["auc"]["iterative linf 0.2"] > 0.8
    clean, twins = np.array(found["clean"]), np.array(found["twins"]["fast 0.2"])
    expected = ((clean <= 0).mean() + (twins > 0).mean()) / 2
    assert found["calibrated"]["fast 0.2"] == pytest.approx(expected)
    assert found["calibrated"]["false positives"] == pytest.approx((clean > 0).mean())


def test_attacks_of_both_types_are_judged_by_the_model(setting):
    guard, (x, y) = setting.guard("Det A"), setting.test
    missed = safetynet_attacks.type_one(setting, "Det A")
    out = td.evaluate(guard, setting.twins("fast 0.2"), y)
    assert missed["calibrated"]["fast 0.2"] == pytest.approx(out.wrong.mean())
    straight = safetynet_attacks.type_two(setting, "Det A", safetynet_attacks.OPEN[2])
    attack = safetynet_attacks.made(setting, guard, safetynet_attacks.OPEN[2])
    assert isinstance(attack, td.attacks.BPDA) and attack.exact_forward
    assert straight["missed"] == attack(guard, x, y, only=np.arange(len(x)) < 12).success[:12].tolist()
    labels = safetynet_attacks.type_two(setting, "Det A", "labels, linf")
    reached = np.array(labels["reached"]) & (np.array(labels["distance"]) <= 0.2 * (1 + 1e-6))
    assert len(reached) == 6 and labels["missed"] == reached.tolist()
    assert not isinstance(safetynet_attacks.made(setting, setting.base, safetynet_attacks.PAPERS), td.attacks.BPDA)


def test_hardened_nets_stand_on_the_network_that_was_attacked_in_training(path, setting, tmp_path):  # noqa: F811
    other = keras.models.load_model(path, compile=False)
    random = np.random.default_rng(0)
    other.set_weights([weight * random.uniform(0.3, 1.7, weight.shape) for weight in other.get_weights()])
    other.save(tmp_path / "other.keras")
    here = context(tmp_path, path)
    here.network = lambda recipe, **_: {"attacked": tmp_path / "other.keras"}[recipe]
    codes = dataclasses.replace(CODES, hardened="attacked")
    guards = safetynet_fit.Guards(here, PLAN, codes, path, BUDGET, (setting.train, setting.attacked, setting.held_out))
    guards.chosen = ("fast 0.2",)
    plain = safetynet_fit.PLAIN[1]
    x, y = setting.attacked.x, setting.attacked.y
    right = other(x).numpy().argmax(1) == y
    assert 10 < right.sum() < len(setting.test[0]), "the other network has other samples right"
    attacked = td.attacks.FGSM(0.2)(other, x[right], y[right]).x_adv
    rates = {"fast 0.2": (other(attacked).numpy().argmax(1) != y[right]).mean()}
    assert safetynet_attacks.type_one(guards, plain)["half"]["fast 0.2"] == pytest.approx(rates["fast 0.2"])
    assert len(safetynet_attacks.type_two(guards, plain, safetynet_attacks.PAPERS)["missed"]) == right.sum()
    name = f"{safetynet_fit.ALL}, by class, attacked in training"
    inner = [layer for layer in guards.of(name).guard(name).layers if layer.name == "features"]
    np.testing.assert_array_equal(inner[0].get_weights()[0], other.get_layer("features").get_weights()[0])
    for title, threshold in (("half", 0.0), ("calibrated", None)):
        expected = td.evaluate(guards.hardened.guard(name, threshold), x, y).rejection
        assert safetynet.control(guards, name)[title]["unchanged"] == pytest.approx(expected)
    confidence = td.ThresholdDefense("confidence").attach(other)
    td.calibrate(confidence, setting.held_out.x, max_rejected=0.05)
    found = safetynet.control(guards, safetynet_fit.CONFIDENCE)
    assert list(found) == ["calibrated"]
    assert found["calibrated"]["unchanged"] == pytest.approx(td.evaluate(confidence, x, y).rejection)
    missed = td.evaluate(confidence, attacked, y[right], adversarial=True).error
    found = safetynet_attacks.type_one(guards, safetynet_fit.CONFIDENCE)
    assert list(found) == ["calibrated"] and found["calibrated"]["fast 0.2"] == pytest.approx(missed)


@pytest.mark.slow
def test_whole_protocol_gives_every_row(path, tmp_path, monkeypatch, drawn):  # noqa: F811
    monkeypatch.setitem(safetynet.PLANS, "digits", PLAN)
    monkeypatch.setitem(safetynet.CODES, "digits", dataclasses.replace(CODES, hardened="the same one here"))
    monkeypatch.setattr(safetynet, "FOUR", ("fast", "iterative linf"))
    monkeypatch.setattr(safetynet, "FEWER_GUARDS", (*safetynet_fit.PLAIN, "branch", "Det A"))
    monkeypatch.setattr(safetynet, "FEWER_DETECTORS", ("branch", "Det A"))
    monkeypatch.setattr(safetynet, "BESIDE", ("Det A, binary",))

    def protocol(worker=0):
        made = context(tmp_path, path, samples=20)
        made.worker, made.workers = worker, worker + 1
        safetynet.run(made, pairs=100, steps=2, strongest=4, asked=3, queries=250)
        return made

    first = protocol()
    assert {row["row"] for row in first.rows} == {"S5", "S6", "S7"}
    assert len({row["what"] for row in first.rows}) == len(first.rows), "two rows of one name could not be told apart"
    ours = {row["what"]: row["ours"] for row in first.rows}
    hardened = [what for what in ours if what.endswith(", plain, attacked in training")]
    assert len(hardened) > 10 and all(ours[what] == ours[what.removesuffix(", attacked in training")] for what in hardened[1:])
    verdicts = [row["note"] for row in first.rows if row["what"].startswith("missed, white box less black box")]
    assert len(verdicts) == 2 and all("the black box alone" in words for words in verdicts), "the plain one has none"
    assert "median l2 distance by Carlini-Wagner through the surrogate where there is one, Det A" in {r["what"] for r in first.rows}
    content = json.loads(results.write(first, 1.0, tmp_path).read_text())
    assert all(row["ours"] is None or np.isfinite(row["ours"]) for row in content["rows"])
    for name in ("detection", "control"):
        monkeypatch.setattr(safetynet, name, lambda *_: pytest.fail("a finished part was measured again"))
    drawn()
    again = protocol(worker=1)
    assert again.used <= first.used, "two processes on one run must name its parts alike"
    assert json.dumps(again.rows) == json.dumps(first.rows)


def test_cost_of_matching_is_told_against_its_limit():
    rows = []
    here = types.SimpleNamespace(row=lambda *values, **named: rows.append((values, named)))
    found = {"classifier": 0.1, "defended": 0.15, "stored": 10_000, "samples": 256}
    speed_codes.add_row(here, found)
    speed_codes.add_row(here, found | {"defended": 0.16})
    assert rows[0][0] == ("predict, binary codes", "tfdefense", pytest.approx(1.5)) and rows[0][1]["note"].endswith("1.5; met")
    assert rows[1][1]["note"].endswith("; NOT met")


def test_cost_of_matching_is_measured(path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(speed_codes.WATCHED, "digits", "features")
    found = speed_codes.measure(path, "digits", None, stored=20_000, repeats=2)
    assert min(found["defended"], found["classifier"]) > 0 and found["samples"] == 256
