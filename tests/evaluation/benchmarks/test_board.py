import dataclasses
import json

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.board import measure, tables
from evaluation.benchmarks.board import protocol as board
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tfdefense.attacks import suites
from tfdefense.reporting import plan as plans

SETUP = dataclasses.replace(board.SETUPS["digits"], layers=("features", "scores"), codes=("features",), branch="conv", fitted=300)


@pytest.fixture
def places(classifier, dustbin, tmp_path, monkeypatch):
    classifier.save(tmp_path / "plain.keras")
    dustbin.save(tmp_path / "joined.keras")
    config = {"optimizer": "Adam", "epochs": 3, "loss": "cross_entropy", "dustbin": [], "attack": None, "test_accuracy": 0.98}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, path in (("RESULTS", "results"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **o: tmp_path / f"{'joined' if 'joined' in name else 'plain'}.keras")
    monkeypatch.setitem(board.SETUPS, "digits", SETUP)
    short = dataclasses.replace(plans.PLANS["digits"], linf=(), l2=(0.5, 3), compared={"l2": 0.5}, queries=5, refine=(3, 1))
    short = dataclasses.replace(short, substitute=(1, 10_000))
    monkeypatch.setitem(plans.PLANS, "digits", short)
    monkeypatch.setattr(plans, "_QUICK", {})
    return tmp_path


def test_systems_are_calibrated_as_a_whole(places):
    context = Context("board", "digits", True, 10, None, places, places)
    samples = board.Samples(context, SETUP)
    for system in board.SYSTEMS:
        if system.name not in ("detector branch", "DNR + SafetyNet", "RCE", "DNR + RCE + dustbin"):
            continue
        model = board.build(context, SETUP, system, 2 if system.joined else 0, samples)
        rejected = float((np.asarray(model(samples.held_out.x)["label"]) == -1).mean())
        assert rejected <= board.MAX_REJECTED, system.name
        # Ties of saturated scores may leave less than what is allowed.
        assert rejected > 0.005, system.name
        assert model.output["scores"].shape[-1] == 10


def test_the_board_is_ordered_and_tells_what_failed(places, monkeypatch):
    # Codes above a sliced network of more classes are saved, loaded and attacked through a surrogate.
    monkeypatch.setattr(board, "_QUICK", ("dustbin", "RCE + dustbin + SafetyNet"))
    monkeypatch.setattr(board, "SYSTEMS", (*board.SYSTEMS, dataclasses.replace(board.SYSTEMS[0], name="dustbin")))
    # Every search is compiled for every system: of those of `td.report`, which has its own tests, some of each kind.
    left_out = ("Carlini-Wagner", "DeepFool", "orthogonal PGD", "log-sum-exp", "maximum confidence")
    kept = tuple(one for one in suites.get("board-1").attackers if not one.name.startswith(left_out))
    monkeypatch.setattr(suites, "_SUITES", (suites.Suite("board-1", kept),))
    # Of the two bases of a system one.
    entries = board.entries
    monkeypatch.setattr(board, "entries", lambda *given: entries(*given)[::2])
    options = {"dataset": "digits", "quick": True, "samples": 10, "data_dir": None, "output": None, "only": None, "steps": 2}
    made = []
    write = results.write
    monkeypatch.setattr(results, "write", lambda context, *rest: made.append(context) or write(context, *rest))
    monkeypatch.setattr(Context, "forget_parts", lambda self: None)
    content = json.loads(command.execute("board", board, **options).read_text())
    of = Results(content)
    rows = tables.ranked(of)
    assert len(rows) == 3 and [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert {(row.system, row.base) for row in rows} >= {("dustbin", "jointly trained"), ("dustbin", "clean")}
    plain = {"system": "dustbin", "base": "clean"}
    assert of(**plain, metric="false-positive rate", perturbation="") == 0
    assert of(**plain, metric="robust accuracy", norm="l2", epsilon=0.5) < 0.9
    assert of.all(**plain, metric="rejection rate", ood="letters8")
    right = of.all(**plain, metric="accuracy")
    assert [row.get("counted") for row in right] == [None, "before rejection"] and right[0].value == right[1].value
    for name, each in content["each"].items():
        system, base = name.rsplit(", ", 1)
        curve = of.values("epsilon", system=system, base=base, metric="robust accuracy", norm="l2")
        assert list(curve) == [0, 0.5, 3]
        near = np.array([np.inf if value is None else value for value in each["l2"]["distance"]])
        assert np.mean(near > 0.5 * (1 + 1e-5)) == pytest.approx(curve[0.5]) and len(near) == 10
    for table in tables.TABLES["board"].values():
        assert table(of).count("\n") >= 1
    assert "dustbin, clean" in tables.curve(of)
    assert content["settings"]["base, clean"].endswith("Adam, 3 epochs, cross entropy, test accuracy 0.98")

    monkeypatch.setattr(board, "measured", lambda *_: pytest.fail("a finished part was measured again"))
    again = Context("board", "digits", True, 10, None, places / "elsewhere", made[0].cache)
    board.run(again, steps=2)
    assert again.used == made[0].used and again.rows == made[0].rows


def test_a_joined_base_without_its_dustbin_is_a_classifier_of_the_classes(places):
    context = Context("board", "digits", True, 10, None, places, places)
    joined = [system for system in board.SYSTEMS if system.joined and system.make is None]
    model = board.build(context, SETUP, joined[0], 2, None)
    x = td.data.load("digits", "test").x
    import keras

    whole = keras.models.load_model(places / "joined.keras", compile=False)
    assert model.output.shape[-1] == 10
    np.testing.assert_allclose(model(x), np.asarray(whole(x))[:, :10], atol=1e-6)


def test_entries_pair_systems_with_their_bases():
    found = board.entries(False, None)
    assert len(set(found)) == len(found) == 2 * len(board.SYSTEMS)
    assert len({(system.name, base) for system, base in found}) == len(found), "rows of one name could not be told apart"
    assert {base for system, base in found if system.joined} == {2, 3}
    assert [(s.name, b) for s, b in board.entries(True, "DNR")] == [("DNR", 0), ("DNR", 1)]
    with pytest.raises(ValueError, match="`--only` must be one of no defense, confidence"):
        board.entries(False, "DRN")


def test_a_part_of_the_board_does_not_take_its_place(places):
    options = {"dataset": "digits", "quick": False, "samples": 10, "data_dir": None, "output": None, "steps": 2}
    with pytest.raises(ValueError, match="`--only` is a part of the board .* another folder with `--output`"):
        command.execute("board", board, **options, only="DNR")


def on(name, base=0, **fields):
    """A system of that name and its base."""
    return board.System(name, False, None if name == "no defense" else max, **fields), board.BASES[base]


def measured(half, robust, distance=(0.5, 1.0), failed=()):
    curve = {"sizes": [1], "robust_accuracy": [robust], "rejected": [robust / 2]}
    clean = {"right": 0.9, "before_rejection": 0.92, "rejected": 0.05, "wrong": 0.05}
    about = {"compared": {"l2": 1}, "benign": [{"rejected": 0.1}], "ood": [{"what": "letters", "rejected": 0.7}]}
    each = {"l2": {"distance": list(distance), "found by": ["PGD", None]}}
    verdict = {"median_perturbation": {"l2": half}}
    about["checks"] = [{"kind": kind, "passed": False} for kind in failed] + [{"kind": "falls at a large size", "passed": True}]
    return {"verdict": verdict, "curves": {"l2": {"adaptive": curve}}, "clean": clean, "each": each, "sizes": [0.5, 1, 2]} | about


def test_where_the_attack_failed_there_is_no_rank(tmp_path):
    found = {"beyond": (None, 0.9), "second": (0.9, 0.3), "third": (0.9, 0.2), "first": (0.95, 0.4)}
    context = Context("board", "digits", True, 10, None, tmp_path, tmp_path)
    board.add_rows(context, {on(name): measured(*pair) for name, pair in found.items()}, 10)
    of = Results({"rows": [row.plain() for row in context.rows]})
    assert [row.system for row in tables.ranked(of)] == ["first", "second", "third"]
    beyond = of.one(system="beyond", metric="median distance")
    assert beyond.value is None and "the attack failed" in beyond.note
    assert of(system="first", metric="rejection rate", epsilon=1) == 0.2
    assert of(system="first", ood="letters") == 0.7
    assert of.one(system="first", metric="median distance").get("found most by") == "PGD"
    shown = tables.board(of).splitlines()
    assert shown[2].startswith("| 1 | first | clean | 0.95 |") and shown[-1].startswith("| - | beyond | clean | - |")
    assert tables.leaders(Results({"rows": []})) == "No system has a rank: the attack failed on all of them."


def test_every_check_that_failed_is_told_once(tmp_path):
    failed = (
        "first start before others",
        "gradients are there",
        "first start before others",
        "rejects clean samples as calibrated",
    )
    context = Context("board", "digits", True, 10, None, tmp_path, tmp_path)
    board.add_rows(context, {on("DNR"): measured(0.9, 0.3, failed=failed)}, 10)
    (row,) = (row for row in context.rows if row.metric == "median distance")
    assert row.flags == ("first start before others", "gradients are there", "rejects clean samples as calibrated")
    shown = tables.leaders(Results({"rows": [row.plain() for row in context.rows]}))
    assert "| DNR | clean | ≤ 0.90 |" in shown, "an upper bound where the attack failed a check"
    board.add_rows(context, {on("NR"): measured(0.8, 0.3)}, 10)
    shown = tables.leaders(Results({"rows": [row.plain() for row in context.rows]}))
    assert "| NR | clean | 0.80 |" in shown


def test_systems_are_compared_on_the_same_samples(tmp_path):
    near, sizes = np.linspace(0.2, 1.4, 41), {"sizes": np.linspace(0.1, 2, 39).tolist()}
    found = {
        on("no defense"): measured(0.8, 0.4, near) | sizes,
        on("DNR"): measured(0.9, 0.4, near + 0.1) | sizes,
        on("both", combined=True): measured(1.1, 0.5, near + 0.3, failed=("gradients are there",)) | sizes,
        on("no defense", 1): measured(1.0, 0.4, near + 0.2) | sizes,
    }
    context = Context("board", "digits", True, 10, None, tmp_path, tmp_path)
    board.add_rows(context, found, 41)
    of = Results({"rows": [row.plain() for row in context.rows]})
    compared = {(row.get("among"), row.get("bases"), row.get("over among")): row for row in of.all(table="board.comparison")}
    assert list(compared) == [
        ("combinations", "all", "single defenses"),
        ("combinations", "others", "single defenses"),
        ("defenses", "others", "no defense"),
        ("no defense", "adversarially trained", "defenses"),
    ]
    row = compared["no defense", "adversarially trained", "defenses"]
    assert (row.system, row.base, row.get("over"), row.get("over base")) == ("no defense", "adversarially trained", "both", "clean")
    assert row.get("over bases") == "others" and row.flags == ("gradients are there",)
    row = compared["combinations", "all", "single defenses"]
    low, high = row.interval
    assert (row.system, row.base, row.get("over"), row.get("over base")) == ("both", "clean", "DNR", "clean")
    assert row.flags == ("gradients are there",)
    assert "| both (clean) | DNR (clean) | both (clean) |" in tables.comparisons(of), "the one on which a check failed"
    # Every sample is harder by the same: which of them are drawn hardly moves the difference. Unpaired it would by 0.4.
    assert row.value == pytest.approx(0.2, abs=0.02) and high - low < 0.05


def test_interval_is_where_the_curve_crosses_shares_that_few_samples_cannot_tell_from_half():
    curve = {"sizes": [1, 2, 3], "robust_accuracy": [0.75, 0.5, 0.25]}
    found = {"curves": {"l2": {"adaptive": curve}}, "clean": {"wrong": 0.0}}
    assert measure.interval(found, 100) == pytest.approx((1.61, 2.39), abs=0.005)
    low, high = measure.interval(found, 10)
    assert low == pytest.approx(0.76, abs=0.005) and high is None, "beyond the sizes that were tried"


def test_machines_are_fitted_on_what_no_network_has_seen():
    context = Context("board", "mnist", False, 10, None, None, None)
    samples = board.Samples(context, board.SETUPS["mnist"])
    x = np.arange(60_000, dtype="float32").reshape(-1, 1, 1, 1)
    samples.train = td.data.Images(x, np.zeros(60_000, int), (), "mnist", "train", (0.0, 1.0))
    fitted, held_out = samples.fitted.x.ravel(), samples.held_out.x.ravel()
    assert len(set(fitted)) == 5000 and fitted.min() >= 32_000
    others = samples.others.x.ravel()
    assert len(set(others)) == 5000 and others.min() >= 32_000 and not set(others) & set(fitted)
    assert held_out.min() == 30_000 and held_out.max() == 31_999


def test_a_system_of_several_defenses_is_a_combination():
    for system in board.SYSTEMS:
        assert system.combined == (system.make is not None and isinstance(system.make(td, SETUP), td.AnyOf)), system.name
