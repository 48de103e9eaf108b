"""The rows and tables of the detector protocol: the numbers here are made up."""

import dataclasses
import json
import re
import types

import keras
import numpy as np
import pytest

from evaluation.papers.detector import dynamic, goals, protocol, regularized, settings, tables, topology
from evaluation.runner import results as files
from evaluation.runner.context import Context
from evaluation.runner.rows import Results

PLAN = dataclasses.replace(settings.PLANS["digits"], linf=(0.1, 0.2), l2=(1.0,), strongest=(0.1, 0.2))


@pytest.fixture
def setting():
    samples = np.zeros((4, 8, 8, 1), "float32")
    return types.SimpleNamespace(
        plan=PLAN,
        adversaries=settings.adversaries(PLAN),
        layers=["image", "conv"],
        budget={"steps": 4},
        test=(samples, np.zeros(4)),
        samples={"whole": (samples, np.zeros(4), 1.0)},
        attacked=types.SimpleNamespace(x=samples),
    )


@pytest.fixture
def made(tmp_path):
    return Context("detector", "digits", True, None, None, tmp_path, tmp_path / "parts", commit="abc")


def found(made):
    return Results({"rows": [row.plain() for row in made.rows]})


def goal(start, dataset="mnist"):
    return next(each for each in goals.GOALS["detector", dataset] if each.what.startswith(start))


def test_worst_case_is_given_at_each_size(setting, made, tmp_path):
    broken = [[True, False, False, False], [True, True, False, False]]
    measured = {"static": {"strongest": {title: broken for title in dynamic.ATTACKS}}}
    dynamic._adaptive_rows(made, setting, measured, tmp_path)
    of = found(made)
    for attack in dynamic.ATTACKS.values():
        assert [of(epsilon=size, detector="static", metric="robust accuracy", **attack) for size in (0.1, 0.2)] == [0.75, 0.5]
    assert of.one(epsilon=0.2, attack="worst case").flags == ("falls at a large size",)
    assert not of.one(epsilon=0.1, attack="worst case").flags, "of the last size alone"
    assert not any(row.flags for row in of.all(attack="dynamic adversary")), "the paper's own looks for nothing stronger"
    assert goal("robust accuracy, worst case, linf 0.2, static").measured(of) == 0.5
    assert (tmp_path / "strongest.png").exists()
    assert "| static | PGD | 5 % FPR | 0.750 | ≤ 0.500 |" in tables.adaptive(of)
    assert goals.LINES[0].paper(of) == (0.5, None) and goals.LINES[0].results == "detector-mnist"


@pytest.fixture
def by_name(setting):
    """Detection accuracy of all pairs, no two the same."""
    names = list(setting.adversaries)
    return {a: {b: 0.5 + 0.01 * i + 0.001 * j for j, b in enumerate(names)} for i, a in enumerate(names)}


def test_transfer_says_which_was_fitted_and_which_tested(setting, made, by_name):
    accuracy = dict.fromkeys(setting.adversaries, 0.2) | {"fast 0.1": 0.9}
    sizes = protocol.chosen_sizes(setting, accuracy)
    protocol._transfer_rows(made, setting, by_name, sizes)
    of = found(made)
    bim = {"fitted_on": "BIM linf", "fitted_at": 0.1, "attack": "FGSM", "norm": "linf", "epsilon": 0.2}
    assert of(table="metzen2017.fig4", **bim) == by_name["iterative linf 0.1"]["fast 0.2"]
    fgsm = {"fitted_on": "FGSM linf", "fitted_at": 0.1, "attack": "FGSM", "epsilon": 0.2}
    assert of(table="metzen2017.fig3", **fgsm) == by_name["fast 0.1"]["fast 0.2"]
    assert of(fitted_on="BIM l2", attack="FGSM") == by_name["iterative l2 1"]["fast 0.2"]
    assert of(fitted_on="DeepFool l2", attack="DeepFool", norm="linf") == by_name["DeepFool l2"]["DeepFool linf"]
    assert sizes["fast"] == "fast 0.2" and not of.all(table="metzen2017.fig4", attack="FGSM", epsilon=0.1)
    assert len(of.all(table="metzen2017.fig3")) == 2 * 2 + 2 * 2 + 1 and len(of.all(table="metzen2017.fig4")) == 5 * 4
    assert goal("fitted on BIM linf").measured(of) == by_name["iterative linf 0.1"]["fast 0.2"]


def test_tables_stand_as_in_the_figures(setting, made, by_name, tmp_path):
    accuracy = dict.fromkeys(setting.adversaries, 0.2) | {"fast 0.1": 0.9, "DeepFool l2": 0.05}
    sizes = protocol.chosen_sizes(setting, accuracy)
    measured = {name: {**by_name[name], "false positives": 0.25} for name in by_name}
    protocol._detectability_rows(made, setting, accuracy, measured, tmp_path)
    protocol._transfer_rows(made, setting, by_name, sizes)
    of, own = found(made), {name: f"{by_name[name][name]:.3f}" for name in by_name}
    assert all(row.interval[0] < row.value < row.interval[1] for row in of.all(statistic=None, table="metzen2017.fig2"))
    shown = re.sub(r" \[[^]]*\]", "", tables.detectability(of))
    assert f"| BIM linf 0.2 | {own['iterative linf 0.2']} | 0.200 | 0.250 |" in shown
    least = min(by_name[name][name] for name in by_name if accuracy[name] < 0.3)
    assert f"| least, where accuracy is under 0.3 | {least:.3f} | - | - |" in shown
    assert f"| least, where accuracy is under 0.1 | {own['DeepFool l2']} | - | - |" in shown
    head, _, first, *_ = tables.transfer(of).splitlines()
    assert head == "| fitted on | FGSM linf 0.2 | BIM linf 0.1 | BIM l2 1 | DeepFool l2 | DeepFool linf |"
    cells = [own["fast 0.2"], *(f"{by_name['fast 0.2'][sizes[kind]]:.3f}" for kind in list(sizes)[1:])]
    assert first == f"| FGSM linf 0.2 | {' | '.join(cells)} |"
    assert f"| FGSM linf 0.1 | {own['fast 0.1']} | {by_name['fast 0.1']['fast 0.2']:.3f} |" in tables.sizes(of)


def test_one_branch_for_all_gives_the_least(setting, made):
    names = list(setting.adversaries)
    accuracy = {name: 0.2 if name in ("fast 0.2", "iterative l2 1") else 0.8 for name in names}
    sizes = protocol.chosen_sizes(setting, accuracy)
    mixture = {name: 0.9 - 0.01 * i for i, name in enumerate(names)}
    alone = {name: 0.7 + 0.01 * i for i, name in enumerate(names)}
    protocol._mixture_rows(made, setting, {sizes["iterative l2"]: alone, protocol.MIXED: mixture}, sizes, accuracy)
    of = found(made)
    for title, branch in (("a mixture of the five", mixture), ("BIM l2", alone)):
        assert of(fitted_on=title, over="the five") == min(branch[name] for name in sizes.values())
        assert of(fitted_on=title, over="accuracy under 0.3") == min(branch["fast 0.2"], branch["iterative l2 1"])
        assert of(fitted_on=title, attack="FGSM", epsilon=0.1) == branch["fast 0.1"]
    assert goal("least detection accuracy of the five").measured(of) == min(mixture[name] for name in sizes.values())


def test_stages_give_the_worst_sigma_that_counts(setting, made, monkeypatch):
    monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, annealed=(0.4, 0.3)))

    def measured(setting, name, sigma, size):
        assert name == "dynamic" and round(10 * sigma, 6) % 1 == 0, "the paper has tenths"
        detected = None if sigma > 0.75 else size + abs(sigma - 0.5)
        return {"detectability": detected, "successful": 40 - int(10 * sigma), "accuracy": 0.1}

    monkeypatch.setattr(dynamic, "under_sigma", measured)
    dynamic._annealed_rows(made, setting)
    for size, row in zip((0.4, 0.3), made.rows, strict=True):
        assert (row.detector, row.epsilon, row.value, row.get("statistic")) == ("dynamic", size, size, "minimum")
        assert row.n == 35 and row.note == "at sigma 0.5; 8 of 11 count"
    assert [curve["x"] for curve in made.curves] == [[0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]] * 2
    assert [curve["epsilon"] for curve in made.curves] == [0.4, 0.3]


def test_detectors_are_compared_with_and_without_benign_perturbations(setting, made, monkeypatch):
    asked = []
    monkeypatch.setattr(dynamic, "_measured", lambda *rest: asked.append(rest[-1]) or {})
    monkeypatch.setattr(dynamic, "_adaptive_rows", lambda *_: None)
    for mixed, benign in ((True, True), (False, True), (False, False)):
        monkeypatch.setattr(setting, "plan", dataclasses.replace(PLAN, mixed=mixed))
        dynamic.add_rows(made, setting, 4, made.output, benign)
    assert asked[0] == list(dynamic.DETECTORS) and len(asked[0]) == 5
    assert asked[1] == [name for name in asked[0] if name != dynamic.MIXTURE]
    assert asked[2] == list(dynamic.PLAIN)


def test_false_positives_say_threshold_and_perturbation(setting, made):
    rates = [0.01, 0.4, 0.3, 0.25, 0.2, 0.15]
    assert dynamic._perturbations(PLAN) == [*PLAN.tested, ("sign", 0.2)]
    control = {settings.HALF: rates, settings.CALIBRATED: [rate / 2 for rate in rates]}
    dynamic._benign_rows(made, setting, dict.fromkeys(("static", "static with benign perturbations"), {"control": control}))
    of = found(made)
    for name, seen in (("static", False), ("static with benign perturbations", True)):
        noise = {"detector": name, "perturbation": "sign", "epsilon": 0.1}
        assert of(**noise, threshold="probability 0.5", in_training=seen) == 0.4
        assert of(**noise, threshold="5 % FPR", in_training=seen) == 0.2
        assert of(detector=name, perturbation="shift", epsilon=1, threshold="5 % FPR", in_training=False) == 0.1
        assert of(detector=name, perturbation="", threshold="probability 0.5", row="M7") == 0.01
    assert goal("benign sign noise of 0.1 rejected, static with").measured(of) == 0.2
    assert goal("false-positive rate at a probability of 0.5").measured(of) is None, "of the dynamic one nothing is known"


def test_training_says_what_it_took_unless_it_was_interrupted(setting, made):
    took = {"static": {"fitting": {"steps": 7, "seconds": 60.0}}, "dynamic": {"fitting": {"steps": 9, "seconds": np.nan}}}
    dynamic.training_rows(made, setting, took)
    of = found(made)
    assert of(detector="static", metric="count") == 7 and of.one(detector="static", metric="CPU seconds").n == 8
    assert of(detector="static", metric="CPU seconds") == 60.0 and of.one(detector="dynamic", metric="count").n == 4
    assert of(detector="dynamic", metric="CPU seconds") is None


def test_both_topologies_stand_beside_one_another(setting, made, monkeypatch):
    sizes = {"fast": "fast 0.2", "DeepFool l2": "DeepFool l2"}
    setting.layer = lambda kind: "conv"
    setting.weights = lambda depth: 1000 * depth
    detected = lambda depth: 0.1 * depth + 0.5  # noqa: E731
    measure = lambda setting, fitted, layer, names, number, depth: {fitted[0]: detected(depth), "false positives": 0.01 * depth}  # noqa: E731
    monkeypatch.setattr(dynamic, "took_to_fit", lambda setting, name, depth: {"steps": 7, "seconds": 1.0})
    by_sigma = lambda setting, name, sigma, size, depth: {"detectability": sigma + 0.1 * depth, "successful": 40, "accuracy": 0.1}  # noqa: E731
    monkeypatch.setattr(dynamic, "under_sigma", by_sigma)
    made.parts = lambda parts: {name: function(*arguments) for name, (function, *arguments) in parts.items()}
    topology.add_rows(made, setting, measure, sizes)
    of = found(made)
    for depth in (3, 4):
        fields = {"table": topology.TABLE, "convolutions": depth}
        assert of(**fields, counted="weights") == 1000 * depth
        assert of(**fields, attack="FGSM", epsilon=0.2, detector="static") == detected(depth)
        assert of(**fields, metric="false-positive rate", fitted_on="FGSM linf") == 0.01 * depth
        assert of(**fields, statistic="minimum") == 0.1 * depth, "the worst of the tenths"
    shown = re.sub(r" \[[^]]*\]", "", tables.topology(of))
    assert "| detection accuracy, static, FGSM linf 0.2 | 0.800 | 0.900 |" in shown and "| weights | 3000 | 4000 |" in shown
    assert goal("least detection accuracy of the five, each by its own branch, 3").measured(of) == detected(3)


def test_pages_say_what_is_not_measured_and_how_it_is(setting, made):
    nothing = Results({"rows": [], "dataset": "cifar10"})
    for name in ("topology", "regularized"):
        assert "Not measured: `python -m evaluation detector --dataset cifar10" in tables.TABLES["detector"][name](nothing)
    for weight, value in zip(regularized.WEIGHTS, (0.1, 0.2, 0.4), strict=True):
        fields = {"base": regularized.base(weight), "n": 4}
        made.row(regularized.TABLE, "accuracy", 1 - value, **fields)
        made.row(regularized.TABLE, "robust accuracy", value, **fields, attack="PGD", norm="linf", epsilon=0.2)
    assert "| clean | 0.900 | 0.100 |" in tables.regularized(found(made))
    assert goal("robust accuracy of the classifier").measured(found(made)) == pytest.approx(0.2)
    assert goal("accuracy of the classifier").measured(found(made)) == pytest.approx(-0.2)


def test_networks_of_two_pages_are_the_same_by_their_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path)

    def written(protocol, network, accuracy, **fields):
        rows = [{"metric": "accuracy", "value": accuracy, **fields}]
        content = {"dataset": "cifar10", "settings": {"network": network}, "rows": rows}
        (tmp_path / f"{protocol}-cifar10.json").write_text(json.dumps(content))
        return Results.load(tmp_path / f"{protocol}-cifar10.json")

    own = lambda network, accuracy: written("detector", network, accuracy, table="metzen2017.fig2")  # noqa: E731
    assert tables.weights(own("a", 0.9)) == "Of SafetyNet there are no results."
    for network, accuracy, same in (
        ("a, weights 1", 0.9, "yes."),
        ("a, weights 2", 0.9, "no."),
        ("a, weights 1", 0.8, "no."),
    ):
        written("safetynet", network, accuracy, table="lu2017.ours.networks", base="clean")
        assert tables.weights(own("a, weights 1", 0.9)).endswith(f"The same weights: {same}")
    written("safetynet", "a", 0.9, table="lu2017.ours.networks", base="clean")
    assert "perhaps" in tables.weights(own("a", 0.9)) and tables.weights(own("a", 0.8)).endswith("no.")


def test_one_branch_is_judged_on_all_that_work(made):
    for fitted, over, value in (
        ("a", "the five", 0.9),
        ("a", "accuracy under 0.3", 0.7),
        ("b", "the five", 0.8),
        ("b", "accuracy under 0.3", None),
    ):
        about = {"fitted_on": fitted, "statistic": "minimum", "over": over, "note": "none"}
        made.row("metzen2017.ours.one_branch", "detection accuracy", value, **about)
    made.row("metzen2017.ours.one_branch", "detection accuracy", 0.1, fitted_on="b", attack="FGSM")
    assert goals._one_branch(found(made)) == 0.8


def test_what_differs_in_dynamic_training_is_in_the_settings():
    assert dynamic.differs(PLAN, 100) == {}
    differs = dynamic.differs(dataclasses.replace(PLAN, annealed=(0.4, 0.3), fighting=5), 100)
    assert differs["sizes of dynamic training"].startswith("0.4, 0.3, 0.2 in turn, 34 batches")
    assert differs["steps of its adversary"].startswith("5 in training, 10 under test")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1 / 255, "1/255"),
        (2 / 255, "2/255"),
        (400 / 255, "400/255"),
        (0.2, "0.2"),
        (0.05, "0.05"),
        (1.0, "1"),
        (1, "1"),
        (1.5, "1.5"),
    ],
)
def test_sizes_are_read_from_six_digits_in_parts_of_255_where_they_are_such(value, text):
    assert tables._size(float(f"{value:.6g}")) == settings.size_text(value) == text


def test_dynamic_part_is_left_out_where_the_paper_has_none(tmp_path, monkeypatch):
    monkeypatch.setitem(settings.PLANS, "digits", dataclasses.replace(PLAN, dynamic=None, depths=("conv",), usual=0, deepfool=0))
    steps, called = ("_detectability_rows", "_depth_rows", "_transfer_rows", "_mixture_rows"), []
    for module, name in (*((protocol, step) for step in steps), (dynamic, "add_rows")):
        monkeypatch.setattr(module, name, lambda *_, name=name: called.append(name))
    monkeypatch.setattr(protocol, "_accuracies", lambda _, setting: dict.fromkeys(setting.adversaries, 0.1))
    monkeypatch.setattr(protocol, "detectabilities", lambda *_: {})
    made = Context("detector", "digits", True, None, None, tmp_path, tmp_path)
    inputs = keras.Input((8, 8, 1))
    keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(inputs))).save(tmp_path / "model.keras")
    made.network = lambda recipe, **options: tmp_path / "model.keras"
    protocol.run(made)
    assert called == list(steps)
    for useless in ({"batches": 3}, {"steps": 2}, {"attacked": 9}, {"benign": False}):
        with pytest.raises(ValueError, match="On digits nothing is trained against the dynamic adversary"):
            protocol.run(made, **useless)
