import sys

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.speed import codes as speed_codes
from evaluation.benchmarks.speed import detector as speed_detector
from evaluation.benchmarks.speed import fit as speed_fit
from evaluation.benchmarks.speed import onednn as speed_onednn
from evaluation.benchmarks.speed import overhead as speed_overhead
from evaluation.benchmarks.speed import protocol as speed
from evaluation.benchmarks.speed import report as speed_report
from evaluation.benchmarks.speed.counting import counted
from evaluation.benchmarks.speed.goals import GOALS
from evaluation.runner import networks
from evaluation.runner.context import Context
from evaluation.runner.rows import Results

GOOD = {"passes": 40.0, "wall_passes": 41.0, "cpu": 4.0, "pass_cpu": 0.1, "pass_wall": 0.1, "wall": 4.0}
GOOD |= {"success": 1.0, "on_target": 0.1, "l2": 1.5, "linf": 0.2, "largest_linf": 0.2, "in_bounds": True}
GOOD |= {"iterations": 40.0, "samples": 128}


class Scripted:
    """A library that gives prepared answers and notes when it was asked."""

    def __init__(self, name, answers, log):
        self.name, self.answers, self.log = name, list(answers), log
        self.about = {"attacks": ["pgd", "cw"]}

    def ask(self, attack, settings, samples, warm):
        self.log.append((self.name, warm, samples))
        return {"warm": True} if warm else self.answers.pop(0)


def executable(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def context(path, **changes):
    values = {"protocol": "speed", "dataset": "mnist", "quick": False, "samples": None, "data_dir": None}
    return Context(**(values | {"output": path, "cache": path} | changes))


def turns(answers, attack="pgd"):
    log = []
    libraries = [Scripted(name, given, log) for name, given in answers.items()]
    return speed.in_turns(libraries, attack, speed.SETTINGS[attack], 128, lambda text: None), log


def test_libraries_take_turns_and_are_warmed_up_once():
    found, log = turns({"tfdefense": [GOOD] * 3, "art": [GOOD] * 3})
    assert [name for name, warm, _ in log if not warm] == ["tfdefense", "art"] * 3
    assert [name for name, warm, _ in log if warm] == ["tfdefense", "art"]
    assert {name: len(runs) for name, runs in found.items()} == {"tfdefense": 3, "art": 3}


def test_slow_or_failed_runs_are_not_repeated():
    slow = GOOD | {"wall": speed.PATIENCE + 1}
    found, _ = turns({"tfdefense": [GOOD] * 3, "foolbox": [slow], "art": [{"error": "no result in 1 s"}]})
    assert {name: len(runs) for name, runs in found.items()} == {"tfdefense": 3, "foolbox": 1, "art": 1}


def test_art_runs_carlini_wagner_on_fewer_samples_and_says_so(tmp_path):
    found, log = turns({"art": [{"error": "no result in 420 s"}]}, "cw")
    assert log == [("art", True, 16), ("art", False, 16)]
    here = context(tmp_path)
    speed.add_rows(here, "cw", found)
    (row,) = here.rows
    assert (row.value, row.note, row.n, row.system) == (None, "no result in 420 s", 16, "art")


def test_median_of_the_repeats_counts():
    runs = [GOOD | {"passes": value} for value in (50.0, 40.0, 41.0)]
    assert speed.summary(runs)["passes"] == 41.0
    assert speed.summary([*runs, {"error": "x"}])["repeats"] == 3


def not_met(here, dataset="mnist"):
    """Names of the goals of the protocol that its rows do not meet; those that they say nothing of are left out."""
    found = Results({"rows": [row.plain() for row in here.rows], "settings": {}})
    goals = [(goal, goal.measured(found)) for goal in GOALS[here.protocol, dataset]]
    return [goal.what for goal, value in goals if value is not None and not goal.met(value)]


@pytest.mark.parametrize(
    "attack, result, broken",
    [
        ("pgd", {"passes": 42.0}, []),
        ("pgd", {"passes": 42.5}, ["PGD: passes"]),
        ("cw", {"passes": 440.0, "iterations": 400.0}, []),
        ("cw", {"passes": 441.0, "iterations": 400.0}, ["Carlini-Wagner: passes an iteration"]),
        ("deepfool", {"passes": 45.0, "l2": 1.95}, []),
        ("deepfool", {"passes": 45.0, "l2": 1.96}, ["DeepFool: mean l2"]),
        ("deepfool", {"passes": 40.0, "success": 0.99}, ["DeepFool: success rate"]),
        ("jsma", {"passes": 151.0}, ["JSMA: passes"]),
    ],
)
def test_limits_are_judged(tmp_path, attack, result, broken):
    here = context(tmp_path)
    speed.add_rows(here, attack, {"tfdefense": [GOOD | result], "art": [GOOD | {"passes": 9999.0}]})
    assert not_met(here) == broken


def test_what_goes_beyond_the_passes_is_judged(tmp_path):
    here = context(tmp_path, protocol="speed_overhead")
    ratios = {"first attack": 1.51, "Square": 1.1, "Carlini-Wagner": 1.11, "training with a random start": 1.05}
    speed_overhead.add_rows(here, ratios)
    work = {"cpu": 59.0, "wall": 301.0, "floor": 30.0, "traces": 16, "samples": 100}
    speed_report.add_rows(here, {"report": work, "suite": work})
    assert not_met(here) == [
        "Carlini-Wagner: passes a step, 32 samples",
        "the first attack over the first gradient",
        "quick report: CPU time over its floor",
        "quick report: traces",
        "standard suite on 100 samples: seconds",
    ]


def test_attacks_make_the_passes_that_they_must_and_share_what_is_compiled(setting):
    """Exactly: the model is asked at the sample, then once a step or query; a gradient costs one pass back."""
    import keras

    model = keras.models.load_model(setting[0])
    with np.load(setting[1]) as file:
        x, y = file["x"][:8], file["y"][:8]
    view = td.view.View.of(model)
    seen = {}
    # So small that none succeeds and leaves the batch.
    for name, attack in {
        "PGD": td.attacks.PGD(1e-6, steps=3, starts="sample"),
        "Square": td.attacks.Square(1e-6, queries=20),
        "Carlini-Wagner": td.attacks.CarliniWagner(steps=4, binary_search_steps=2, initial_c=1e-6, early_stop=False),
    }.items():
        with counted() as work:
            attack(model, x, y)
        seen[name] = (*work.passes[view], work.traces)
    # The first sees also what kind of model it is. Square needs no function of its own.
    assert seen == {
        "PGD": (8 * (1 + 1 + 3 + 1), 8 * 3, 2),
        "Square": (8 * (1 + 1 + 20), 0, 0),
        "Carlini-Wagner": (8 * (1 + 8 + 1), 8 * 8, 1),
    }


@pytest.mark.parametrize("ours, met", [(1.53, True), (1.54, False)])
def test_distance_is_compared_with_foolbox(tmp_path, ours, met):
    here = context(tmp_path)
    speed.add_rows(here, "cw", {"tfdefense": [GOOD | {"l2": ours}], "foolbox": [GOOD]})
    assert not_met(here) == ([] if met else ["Carlini-Wagner: mean l2 over foolbox's"])


@pytest.mark.parametrize("attack, change", [("pgd", {"largest_linf": 0.21}), ("cw", {"in_bounds": False})])
def test_result_outside_its_ball_has_a_flag(tmp_path, attack, change):
    here = context(tmp_path)
    speed.add_rows(here, attack, {"art": [GOOD | change], "foolbox": [GOOD]})
    assert {(row.system, row.flags) for row in here.rows} == {("art", ("left its ball or the bounds",)), ("foolbox", ())}


def test_network_comes_from_the_training_command(tmp_path, monkeypatch):
    seen = executable(tmp_path / "python", f'echo "$@" > {tmp_path}/seen; echo noise; echo {tmp_path}/model.keras')
    monkeypatch.setattr(networks.sys, "executable", str(seen))
    assert networks.trained("digits", data_dir=tmp_path, epochs=2) == tmp_path / "model.keras"
    assert (tmp_path / "seen").read_text().split() == [*("-m", "training", "digits", "--data-dir", str(tmp_path), "--epochs", "2")]
    monkeypatch.setattr(networks.sys, "executable", str(executable(tmp_path / "bad", "exit 2")))
    with pytest.raises(ValueError, match="Expected a trained network from `python -m training digits`.*code 2"):
        networks.trained("digits")


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """A small untrained model and samples labelled as it sees them, as files for a worker."""
    import keras

    from models.small import digits_cnn

    folder = tmp_path_factory.mktemp("worker")
    keras.utils.set_random_seed(0)
    model = digits_cnn()
    model.save(folder / "model.keras")
    x = np.random.default_rng(0).random((16, 8, 8, 1), dtype="float32")
    y = model.predict(x, verbose=0).argmax(1).astype("int32")
    np.savez(folder / "samples.npz", x=x, y=y, target=(y + 1) % 10)
    return folder / "model.keras", folder / "samples.npz"


def test_worker_measures_an_attack(setting, monkeypatch):
    from evaluation.benchmarks.speed import peers
    from evaluation.benchmarks.speed import worker as speed_worker

    def adapter(model, compiled, classes):
        def noise(settings, x, y, target):
            for _ in range(settings["steps"]):
                compiled(x)
            return np.clip(x + 0.5 * np.sign(x - 0.5), 0, 1), settings["steps"]

        return {"noise": noise}

    monkeypatch.setitem(peers.ADAPTERS, "numpy", adapter)
    worker = speed_worker.Worker("numpy", *setting)
    assert worker.about["attacks"] == ["noise"]
    assert worker.answer("noise", {"steps": 1}, 8, True) == {"warm": True}
    few, many = (worker.answer("noise", {"steps": steps}, 8, False) for steps in (20, 400))
    assert few["linf"] is None or few["linf"] == pytest.approx(0.5, abs=0.02)
    assert few["in_bounds"] and few["iterations"] == 20
    assert few["passes"] == pytest.approx(few["cpu"] / few["pass_cpu"])
    assert many["passes"] > 3 * few["passes"], "twenty times the work costs more passes"


def test_pass_is_the_gradient_of_the_summed_cross_entropy(setting):
    import keras
    import tensorflow as tf

    from evaluation.benchmarks.speed import worker as speed_worker

    worker = speed_worker.Worker("tfdefense", *setting)
    x, y = worker.tensors(worker.samples)
    gradient = worker.one_pass(x, y).numpy()
    place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
    step = np.zeros_like(x)
    step[place] = 1e-2
    model = keras.models.load_model(setting[0], compile=False)

    def loss(x):
        return float(tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x))))

    assert (loss(x + step) - loss(x - step)) / 2e-2 == pytest.approx(gradient[place], rel=0.05)


def test_worker_answers_in_its_own_process_and_survives_errors(setting):
    library = speed.start("tfdefense", sys.executable, *setting, 60)
    try:
        assert set(library.about["attacks"]) == {"pgd", "cw", "deepfool", "jsma"}
        assert library.ask(attack="unknown", settings={}, samples=4, warm=False) == {"error": "KeyError: 'unknown'"}
        answer = library.ask(attack="pgd", settings=speed.SETTINGS["pgd"], samples=8, warm=False)
        assert answer.get("success") is not None, answer
        assert answer["largest_linf"] <= 0.2 + 1e-6
    finally:
        library.stop()


def test_library_that_is_not_installed_is_told(setting):
    library = speed.start("no_such_library", sys.executable, *setting, 60)
    assert library.about == {"missing": "no module named no_such_library"}


def test_throughput_is_compared_with_stock_fit(tmp_path):
    found = {kind: {"cpu": [1.0, 1.0, 1.1], "wall": [1.0]} for kind in ("plain", "dynamic detector")} | {"samples": 256}
    found["RCE"] = {"cpu": [0.98, 0.5, 1.2], "wall": [0.97, 0.99, 0.9]}
    found["dustbin"] = {"cpu": [1.04, 1.05, 1.0], "wall": [0.96, 0.96, 2.0]}
    here = context(tmp_path, protocol="speed_defenses")
    speed_fit.add_rows(here, found)
    assert not_met(here) == ["training, dustbin: throughput over stock fit, wall time"]
    assert {(row.system, row.get("clock")): row.value for row in here.rows}["RCE", "cpu"] == 0.98, "the median of the turns"


@pytest.mark.long
def test_fit_of_each_defense_is_measured(setting):
    found = speed_fit.measure(setting[0], "digits", None, batches=1, turns=2)
    assert set(found) == {"samples", *speed_fit.KINDS} and found["samples"] == speed_fit.BATCH
    assert [len(found[kind]["cpu"]) for kind in speed_fit.KINDS] == [2, 2, 2, 1], "the slow one sits turns out"
    ratios = [ratio for kind in speed_fit.KINDS for clock in ("cpu", "wall") for ratio in found[kind][clock]]
    assert np.isfinite(ratios).all() and min(ratios) > 0, "how large they are is for the protocol to say"


def test_what_is_timed_is_each_defense(setting):
    models = speed_fit._models(setting[0], "digits")
    assert models["dynamic detector"].attacks[0].steps == speed_fit.STEPS, "its step holds ten looks"
    classes = models["stock"].output_shape[-1]
    assert models["dustbin"].output_shape[-1] == classes + 1 and models["RCE"].output_shape[-1] == classes
    assert isinstance(models["RCE"].loss, td.losses.ReverseCrossEntropy)


def test_what_looks_around_a_sample_is_timed_beside_the_classifier(classifier, tmp_path):
    classifier.save(path := tmp_path / "model.keras")
    found = speed_codes.measure_around(path, "digits", None, repeats=1)
    here = context(tmp_path, protocol="speed_defenses")
    speed_codes.add_rows_around(here, found)
    ratios = {row.system: row.value for row in here.rows}
    assert ratios["CPR, 10 steps"] > ratios["CPR, 5 steps"] > 2 and ratios["first-order radius"] > 1


def test_onednn_is_measured_against_the_same_without_in_turns(tmp_path, monkeypatch):
    answers = {"0": {"training": 2.0, "gradient": 1.0}, "1": {"training": 1.0, "gradient": 0.75}}
    asked = []
    monkeypatch.setattr(speed_onednn, "_seconds", lambda *place: asked.append(place[-1]) or answers[place[-1]])
    found = speed_onednn.measure(tmp_path, "mnist", None)
    assert asked == ["0", "1"] * 3
    here = context(tmp_path)
    speed_onednn.add_rows(here, found)
    assert [(row.value, row.get("repeats")) for row in here.rows] == [(0.5, 3), (0.75, 3)]


@pytest.mark.parametrize("step, met", [(1.6, True), (1.61, False)])
def test_cost_of_a_step_is_compared_with_its_parts(tmp_path, step, met):
    here = context(tmp_path, protocol="speed_defenses")
    speed_detector.add_rows(here, {"pass": 0.1, "look": 0.1, "plain": 0.4, "step": step})
    passes = {row.system: row.value for row in here.rows if row.metric == "passes"}
    assert passes == pytest.approx({"step": step / 0.1, "adversary": 10.0, "plain step": 4.0, "limit": 16.0})
    assert (not_met(here) == []) == met


@pytest.mark.long
def test_cost_of_a_step_is_measured(classifier, tmp_path, monkeypatch):
    classifier.save(path := tmp_path / "model.keras")
    monkeypatch.setitem(speed_detector.WATCHED, "digits", ("conv", 4))
    found = speed_detector.measure(path, "digits", None, repeats=2)
    assert set(found) == {"step", "plain", "look", "pass"} and min(found.values()) > 0
