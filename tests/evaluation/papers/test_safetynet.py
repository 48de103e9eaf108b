import dataclasses
import functools
import importlib
import pickle
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.speed import codes as speed_codes
from evaluation.papers.detector.settings import PLANS
from evaluation.papers.safetynet import fit, goals, measure, protocol, tables
from evaluation.runner import results, rows
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tests.evaluation.papers.test_detector import path  # noqa: F401 - a fixture
from tfdefense.layers import ClasswiseDetectorSVM, DetectorSVM

PLAN = dataclasses.replace(PLANS["digits"], depths=("conv", "conv_1"), usual=0, deepfool=1, linf=(0.2,), l2=(1.0,))
CODES = fit.Codes(("features", "conv_1", "conv"), 0.2, {}, 300)
BUDGET = {"depth": None, "width": 2, "epochs": 1, "batches": 1, "learning_rate": 3e-3, "steps": 4, "short": False}
BUDGET |= {"fitted": 400, "pairs": 300, "strongest": 12, "asked": 6, "queries": 300, "against": 40}


def _there(place, recipe, **options):
    return place


def context(folder, path, **changes):  # noqa: F811
    values = {"protocol": "safetynet", "dataset": "digits", "quick": True, "samples": None, "data_dir": None, "output": folder}
    made = Context(**(values | {"cache": folder / "parts", "commit": "abc"} | changes))
    made.network = functools.partial(_there, path)
    return made


@pytest.fixture(scope="module")
def setting(path, digits, held_out, tmp_path_factory):  # noqa: F811
    attacked, rest = held_out.divide(60)
    here = context(tmp_path_factory.mktemp("safetynet"), path)
    found = fit.Guards(here, PLAN, CODES, path, BUDGET, (digits.take(slice(400)), attacked, rest))
    found.chosen = ("fast 0.2", "iterative linf 0.2")
    return found


@pytest.mark.parametrize(("classes", "there"), [(10, False), (11, True)])
def test_deepfool_out_of_five_is_an_adversary_of_sets_with_more_than_ten_classes(classes, there):
    here = types.SimpleNamespace(cache=Path("parts"))
    train = types.SimpleNamespace(classes=tuple(map(str, range(classes))))
    found = fit.Guards(here, PLAN, CODES, None, BUDGET, (train, None, None)).adversaries
    assert (fit.OUT_OF_FIVE in found) == there
    if there:
        assert found[fit.OUT_OF_FIVE].attack.top == 5
        assert found[fit.OUT_OF_FIVE].tested["attack"] == "DeepFool-5"
        assert found[fit.OUT_OF_FIVE].fitted["fitted_on"] == "DeepFool-5 l2"
        assert found["DeepFool l2"].tested["attack"] == "DeepFool"


def machines(model):
    return [layer for layer in model.layers if isinstance(layer, (ClasswiseDetectorSVM, DetectorSVM))]


def test_table_4_has_each_number_of_the_paper_beside_ours():
    def row(name, search, value, **about):
        of = fit.fields(name) | search.fields(name) | {"epsilon": 0.2} | about
        return rows.make("lu2017.table4", "error rate", value, **of).plain()

    calibrated = {"threshold": "5 % FPR"}
    made = [
        row("plain", measure.PAPERS, 0.5),
        row("Det A", measure.PAPERS, 0.25, threshold="0"),
        row("Det A", measure.PAPERS, 0.75, **calibrated),
        row(fit.ALL, measure.TRANSFERRED[2], 0.125, threshold="0"),
        rows.make("lu2017.table4", "false-positive rate", 0.0625, **fit.fields("Det A"), **calibrated).plain(),
    ]
    results = Results({"rows": made, "protocol": "safetynet", "dataset": "mnist"})
    lines = [line.strip("| ").split(" | ") for line in tables.table_4(results).splitlines()]
    assert lines[0] == ["attack", "threshold", "plain", "branch", "Det A", "Det A or B or C"]
    found = {tuple(line[:2]): line[2:] for line in lines[2:-2]}
    assert found["gradient descent (II)", "0"][0] == "0.500 (paper 0.328 / 0.553)"
    assert found["gradient descent (II)", "0"][2] == "0.250 (paper 0.163 / 0.037)"
    assert found["gradient descent (II)", "5 % FPR"] == ["0.500", "not measured", "0.750", "not measured"], "the paper has its rule"
    assert found["transfer from one with a branch", "0"][3] == "0.125 (paper 0.091 / 0.000)"
    assert found["transfer from another network", "0"][0] == "not measured (paper 0.289 / 0.367)"
    assert found["gradient descent (I)", "0"][0] == "not measured (paper 0.328 / 0.553)"
    assert found["none: clean rejected", "0"][:2] == ["-", "not measured (paper 0.102)"]
    assert found["none: clean rejected", "5 % FPR"][2] == "0.062"
    assert lines[-1] == [
        "Not measured: `python -m evaluation safetynet --dataset mnist --workers 2` does, in about 2 hours of CPU time."
    ]


def test_verdict_on_figure_2_c_is_that_of_its_rows():
    made = []
    for threshold, branch, own, other in (("0", 0.6, 0.7, 0.5), ("5 % FPR", 0.9, 0.8, 0.95)):
        for name, value in (("branch", branch), ("Det A", own), (fit.ALL, other)):
            about = {"attack": protocol.UNSEEN, "threshold": threshold, "fitted_on": "BIM linf"}
            made.append(rows.make("lu2017.fig2", "detection accuracy", value, **fit.fields(name), **about).plain())
    results = Results({"rows": made})
    lines = [line.strip("| ").split(" | ") for line in tables.figure_2_c(results).splitlines()[2:]]
    assert lines[0] == ["0", "0.600", "0.700", "0.100", "holds", "1 of 2", "Det A: 0.700"]
    assert lines[1] == ["5 % FPR", "0.900", "0.800", "-0.100", "does not hold", "1 of 2", f"{fit.ALL}: 0.950"]
    verdicts = [goal for goal in goals.GOALS["safetynet", "mnist"] if goal.what.startswith("figure 2 C")]
    assert [goal.met(goal.measured(results)) for goal in verdicts] == [True, False]


@pytest.mark.parametrize("dataset", protocol.DATASETS)
def test_every_layer_that_is_watched_is_there(dataset):
    from training.recipe import find

    plan, codes = PLANS[dataset], fit.CODES[dataset]

    def network(name):
        recipe = find(name)
        file, function = recipe.model.split(":")
        return getattr(importlib.import_module(f"models.{file}"), function)(**recipe.model_options)

    model = network(plan.recipe)
    here = types.SimpleNamespace(cache=Path("parts"))
    guards = fit.Guards(here, plan, codes, None, {"depth": plan.depth}, (None, None, None))
    assert len(set(guards.watched)) == 3
    if codes.trained:
        assert network(codes.trained).get_config()["layers"] == model.get_config()["layers"], "the layers are to be the same"
    defended = td.SafetyNet(guards.watched).attach(model)
    assert len(machines(defended)) == 3
    one = keras.Model(model.inputs[0], [model.get_layer(name).output for name in guards.watched])
    assert all(part.numpy().min() >= 0 for part in one(np.full((1, *model.inputs[0].shape[1:]), 0.5, "float32"))), "no ReLU"


def test_masked_gradients_are_told_from_chance():
    white = np.array([True, True] + 8 * [False])
    black = np.array([True, True] + 6 * [True] + 2 * [False])
    assert measure.gradients(white, black) == ("masked", 6)
    assert measure.gradients(white, black & (np.arange(10) < 7)) == ("undecided", 5), "five of five are not enough"
    assert measure.gradients(black, white) == ("not masked", 0)
    assert measure.gradients(white, white) == ("no sign of masking", 0)
    assert measure.gradients(white & False, white & False) == ("undecided", 0)


def test_worst_case_is_the_union_over_attacks_of_the_same_samples():
    never = dict.fromkeys((*measure.OPEN, *measure.BLACK), [False] * 8)
    first, second = [True] + [False] * 7, [False, True, False, False]
    late = [False] * 5 + [True] + [False] * 2  # of a sample that no other black box was asked about
    found = {measure.PAPERS: first, measure.LABELS: second, measure.TRANSFERRED[1]: late}
    worst = measure.worst_cases(never | found, "Det A")
    assert {kind: (1 - missed.mean(), len(missed)) for kind, missed in worst.items()} == {
        "white-box": (0.875, 8), "black-box": (0.75, 4), "all": (0.625, 8)
    }  # fmt: skip
    own = {measure.ON_A_BRANCH: [True] * 6 + [False] * 2}
    assert measure.worst_cases(never | own, "branch")["white-box"].mean() == 0.75


def test_a_part_is_sent_without_samples_and_models(path, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(fit.PLANS, "digits", PLAN)
    monkeypatch.setitem(fit.CODES, "digits", CODES)
    setting = fit.prepared(context(tmp_path, path), BUDGET)
    setting.chosen = ("fast 0.2",)
    sent = pickle.dumps((measure.control, setting, "Det A"))
    assert len(sent) < 10_000
    (_, first, _), (_, second, _) = pickle.loads(sent), pickle.loads(sent)
    assert first is second and first is not setting, "each process opens it once"
    assert first.chosen == setting.chosen and first.budget == setting.budget
    np.testing.assert_array_equal(first.test[0], setting.test[0])


def test_nets_are_fitted_as_they_say(setting):
    plain = setting.net("Det A", ("fast 0.2",))
    x, y, _ = setting.samples["train"]
    pairs = min(BUDGET["pairs"], len(x))
    by_hand = td.SafetyNet(["features"], threshold=0.0).attach(setting.base)
    td.adapt(by_hand, x[:pairs], y[:pairs], adversarial=setting.attacked_samples("fast 0.2", "train")[:pairs], max_rejected=None)
    # A unit may lie on its threshold to the last digit.
    assert np.isclose(plain(x)["suspicion"], by_hand(x)["suspicion"], atol=1e-3).mean() > 0.98
    raw = setting.net("Det A, activations as they are", ("fast 0.2",))
    assert not any(isinstance(layer, td.layers.QuantizedReLU) for layer in raw.layers)
    every = setting.net(f"{fit.ALL}, by class", ("fast 0.2",))
    assert [type(layer).__name__ for layer in machines(every)] == ["ClasswiseDetectorSVM"] * 3


def test_a_net_may_be_fitted_on_more_pairs_than_the_others(setting, monkeypatch):
    seen = []
    monkeypatch.setattr(td, "adapt", lambda model, x, y, adversarial, sources, **_: seen.append((len(x), len(y), len(adversarial))))
    monkeypatch.setitem(fit.NETS, "more", fit.Net("A", pairs=310))
    monkeypatch.setitem(fit.NETS, "most", fit.Net("A", pairs=7000))
    for name in ("Det A", "more", "most"):
        setting.net(name, ("fast 0.2",))
    there = len(setting.samples["train"][0])
    assert seen == [(count,) * 3 for count in (300, 310, there)] and there > 310
    assert [setting.pairs(name) for name in ("Det A", "more", "most", "branch")] == [300, 310, there, there]


def test_dynamic_net_also_learns_what_evaded_it(setting, monkeypatch):
    seen = []
    adapt = td.adapt

    def watched(model, x, y, **named):
        seen.append((x, named["adversarial"], named["sources"]))
        return adapt(model, x, y, **named)

    monkeypatch.setattr(td, "adapt", watched)
    monkeypatch.setitem(fit.NETS, "dynamic", fit.Net("A", rounds=1, benign=True))
    defended = setting.net("dynamic", ("fast 0.2",))
    (clean, first, one), (_, second, both) = seen
    assert one.tolist() == list(range(300)) == both[:300].tolist()
    nearest = [np.abs(setting.samples["train"][0][row] - found).max() for row, found in zip(both[300:], second[300:], strict=True)]
    assert max(nearest) <= CODES.size + 1e-6, "each beside the sample that it was made from"
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
    found = measure.detection(setting, "Det B", ("iterative linf 0.2",), ["fast 0.2", "iterative linf 0.2"])
    assert found["0"]["iterative linf 0.2"] > 0.75 and found["auc"]["iterative linf 0.2"] > 0.8
    clean, attacked = np.array(found["clean"]), np.array(found["attacked"]["fast 0.2"])
    expected = ((clean <= 0).mean() + (attacked > 0).mean()) / 2
    assert found["5 % FPR"]["fast 0.2"] == pytest.approx(expected)
    assert found["5 % FPR"]["false positives"] == pytest.approx((clean > 0).mean())


def test_attacks_of_both_types_are_judged_by_the_model(setting):
    guard, (x, y) = setting.guard("Det A"), setting.test
    missed = measure.type_one(setting, "Det A")
    out = td.evaluate(guard, setting.attacked_samples("fast 0.2"), y)
    assert missed["5 % FPR"]["fast 0.2"] == pytest.approx(out.wrong.mean())
    straight = measure.type_two(setting, "Det A", measure.OPEN[2])
    attack = measure.made(setting, guard, measure.OPEN[2])
    assert isinstance(attack, td.attacks.BPDA) and attack.exact_forward
    assert straight["missed"] == attack(guard, x, y, only=np.arange(len(x)) < 12).success[:12].tolist()
    at_zero = measure.type_two(setting, "Det A", measure.OPEN[2], "0")["missed"]
    assert at_zero == attack(setting.guard("Det A", 0.0), x, y, only=np.arange(len(x)) < 12).success[:12].tolist()
    assert not measure.at_zero("plain") and not measure.at_zero(fit.CONFIDENCE)
    assert measure.PAPERS in measure.at_zero("Det A") and measure.ON_A_BRANCH in measure.at_zero("branch")
    labels = measure.type_two(setting, "Det A", measure.LABELS)
    reached = np.array(labels["reached"]) & (np.array(labels["distance"]) <= 0.2 * (1 + 1e-6))
    assert len(reached) == 6 and labels["missed"] == reached.tolist()
    assert not isinstance(measure.made(setting, setting.base, measure.PAPERS), td.attacks.BPDA)
    assert measure.white_box("branch")[-1] == measure.ON_A_BRANCH
    assert isinstance(measure.made(setting, setting.base, measure.ON_A_BRANCH), td.attacks.WorstCase)


def test_nets_may_stand_on_the_adversarially_trained_network(path, setting, tmp_path):  # noqa: F811
    other = keras.models.load_model(path, compile=False)
    random = np.random.default_rng(0)
    other.set_weights([weight * random.uniform(0.3, 1.7, weight.shape) for weight in other.get_weights()])
    other.save(tmp_path / "other.keras")
    here = context(tmp_path, path)
    here.network = lambda recipe, **_: {"attacked": tmp_path / "other.keras"}[recipe]
    codes = CODES._replace(trained="attacked")
    guards = fit.Guards(here, PLAN, codes, path, BUDGET, (setting.train, setting.attacked, setting.held_out))
    guards.chosen = ("fast 0.2",)
    plain = fit.PLAIN[1]
    x, y = setting.attacked.x, setting.attacked.y
    right = other(x).numpy().argmax(1) == y
    assert 10 < right.sum() < len(setting.test[0]), "the other network has other samples right"
    attacked = td.attacks.FGSM(0.2)(other, x[right], y[right]).x_adv
    rates = {"fast 0.2": (other(attacked).numpy().argmax(1) != y[right]).mean()}
    assert measure.type_one(guards, plain)["0"]["fast 0.2"] == pytest.approx(rates["fast 0.2"])
    assert len(measure.type_two(guards, plain, measure.PAPERS)["missed"]) == right.sum()
    name = f"{fit.ALL}, by class{fit.TRAINED}"
    inner = [layer for layer in guards.of(name).guard(name).layers if layer.name == "features"]
    np.testing.assert_array_equal(inner[0].get_weights()[0], other.get_layer("features").get_weights()[0])
    for title, threshold in measure.THRESHOLDS.items():
        expected = td.evaluate(guards.trained.guard(name, threshold), x, y).rejection
        assert measure.control(guards, name)[title][0] == ("", None, pytest.approx(expected))
    confidence = td.ThresholdDefense("confidence").attach(other)
    td.calibrate(confidence, setting.held_out.x, max_rejected=0.05)
    found = measure.control(guards, fit.CONFIDENCE)
    assert list(found) == ["5 % FPR"]
    assert found["5 % FPR"][0] == ("", None, pytest.approx(td.evaluate(confidence, x, y).rejection))
    missed = td.evaluate(confidence, attacked, y[right], adversarial=True).error
    found = measure.type_one(guards, fit.CONFIDENCE)
    assert list(found) == ["5 % FPR"] and found["5 % FPR"]["fast 0.2"] == pytest.approx(missed)


def kinds(rows):
    """What rows there are: of which tables and metrics, and which fields they have."""
    other = {"value", "n", "flags", "note", "settings", "starts", "through", "suite", "detector"}
    return {(row.table, row.metric, *sorted((row.plain().keys() | row.settings.keys()) - other)) for row in rows}


@pytest.mark.long
def test_whole_protocol_gives_every_row(path, tmp_path, monkeypatch, drawn):  # noqa: F811
    monkeypatch.setitem(fit.PLANS, "digits", PLAN)
    monkeypatch.setitem(fit.CODES, "digits", CODES._replace(trained="the same one here"))
    monkeypatch.setattr(protocol, "FOUR", ("fast", "iterative linf"))
    monkeypatch.setattr(protocol, "FEWER_GUARDS", (*fit.PLAIN, "Det A"))
    monkeypatch.setattr(protocol, "FEWER_DETECTORS", ("branch", "Det A"))
    monkeypatch.setattr(protocol, "BESIDE", ("Det A, binary",))

    def run():
        fit._prepared.clear()
        made = context(tmp_path, path, samples=20)
        protocol.run(made, fitted=150, pairs=100, steps=2, strongest=4, asked=3, queries=250)
        return made

    first = run()
    found = Results.load(results.write(first, 1.0, tmp_path))
    assert {row.row for row in found.rows} == {"S5", "S6", "S7"}
    trained = found.all(base="adversarially trained")
    assert len(trained) > 10 and all(row.value == found(**of(row) | {"base": "clean"}) for row in trained)
    (compared,) = found.all(statistic="white box less black box")
    assert compared.detector == "Det A" and "fall to the black box alone" in compared.note, "the plain ones have none"
    nearest = {row.detector: row.get("through") for row in found.all(attack="Carlini-Wagner")}
    assert nearest == {"": None, "Det A": "differentiable surrogate"}, "of others nothing is replaced"
    committed = Results.load(results.RESULTS / "safetynet-mnist.json").rows
    # One that was left out here has no size.
    committed = [row for row in committed if "DeepFool" not in f"{row.attack} {row.get('fitted on')}"]
    assert kinds(found.rows) == kinds(committed)
    for name, table in tables.TABLES["safetynet"].items():
        assert table(found).count("\n") > 1, name
    for name in ("detection", "control"):
        monkeypatch.setattr(measure, name, lambda *_: pytest.fail("a finished part was measured again"))
    drawn()
    again = run()
    assert again.used <= first.used, "two processes on one run must name its parts alike"
    assert again.rows == first.rows


def of(row):
    return {
        name: row.get(name) for name in ("table", "metric", "system", "attack", "starts", "norm", "epsilon", "knowledge", "over")
    }


def test_cost_of_matching_is_measured(path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(speed_codes.WATCHED, "digits", "features")
    found = speed_codes.measure(path, "digits", None, stored=20_000, repeats=2)
    assert min(found["defended"], found["classifier"]) > 0 and found["samples"] == 256
    made = []
    speed_codes.add_row(types.SimpleNamespace(row=lambda *fields, **_: made.append(fields)), found)
    assert made == [("speed.predict", "time ratio", found["defended"] / found["classifier"])]
