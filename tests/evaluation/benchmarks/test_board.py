import dataclasses
import json
import types

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import nearest
from evaluation.benchmarks.board import attacker, measure, systems, tables
from evaluation.benchmarks.board import protocol as board
from evaluation.benchmarks.board.systems import ADVERSARIAL, BASES, BOTH, CLEAN, JOINED, System
from evaluation.benchmarks.outsiders import protocol as outsiders
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results, make
from tfdefense.view import View

SETUP = dataclasses.replace(board.SETUPS["digits"], layers=("features", "scores"), codes=("features",), branch="conv", fitted=300)
SIZES = ("linf", 0.2), ("l2", 2.0)
SHORT = attacker.Attacker(steps=5, checked=3, longer=2)


@pytest.fixture
def places(classifier, dustbin, tmp_path, monkeypatch):
    config = {"optimizer": "Adam", "epochs": 3, "loss": "cross_entropy", "dustbin": [], "attack": None, "test_accuracy": 0.98}
    for name, model in (("plain", classifier), ("joined", dustbin)):
        (tmp_path / name).mkdir()
        model.save(tmp_path / name / "model.keras")
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    for name, path in (("RESULTS", "results"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    asked = []

    def network(self, name, seed, **settings):
        asked.append((name, seed))
        return tmp_path / ("joined" if "joined" in name else "plain") / "model.keras"

    monkeypatch.setattr(Context, "network", network)
    monkeypatch.setitem(board.SETUPS, "digits", dataclasses.replace(SETUP, attacker=SHORT, compared={"l2": 0.5}))
    # What is in a suite has its own tests.
    monkeypatch.setattr(attacker._Search, "suite", lambda self, name, norm, size: td.attacks.PGD(size, norm, steps=3))
    return tmp_path, asked


def test_systems_are_calibrated_as_a_whole(places):
    context = Context("board", "digits", True, 10, None, places[0], places[0])
    samples = board.Samples(context, SETUP)
    for system in (System("detector branch", CLEAN), System("DNR + confidence", CLEAN), System("RCE", BOTH)):
        model = board.build(context, SETUP, system, 0, samples)
        rejected = float((np.asarray(model(samples.held_out.x)["label"]) == -1).mean())
        assert rejected <= board.MAX_REJECTED, system.name
        # Ties of saturated scores may leave less than what is allowed.
        assert rejected > 0.005, system.name
        assert model.output["scores"].shape[-1] == 10


@pytest.mark.long
def test_the_board_is_ordered_and_pools_its_networks(places, monkeypatch):
    path, asked = places
    chosen = (System("no defense", CLEAN), System("dustbin", JOINED, ("no defense", "clean")))
    monkeypatch.setattr(systems, "SYSTEMS", chosen)
    monkeypatch.setattr(systems, "_QUICK", ("no defense", "dustbin"))
    options = {"dataset": "digits", "quick": True, "samples": 10, "data_dir": None, "output": None}
    options |= {"only": None, "steps": None, "seeds": 2}
    made = []
    write = results.write
    monkeypatch.setattr(results, "write", lambda context, *rest: made.append(context) or write(context, *rest))
    monkeypatch.setattr(Context, "forget_parts", lambda self: None)
    content = json.loads(command.execute("board", board, **options).read_text())
    assert {("digits", 0), ("digits", 1), ("digits_joined", 1)} <= set(asked)
    of = Results(content)
    rows = tables.ranked(of)
    assert len(rows) == 2 and [row.value for row in rows] == sorted((row.value for row in rows), reverse=True)
    assert all(row.n == 20 for row in rows), "ten samples on each of two networks"
    plain = {"system": "no defense", "base": "clean"}
    assert of(**plain, metric="false-positive rate", perturbation="") == 0
    assert of(**plain, metric="robust accuracy", norm="l2", epsilon=3) == 0
    assert of.all(**plain, metric="rejection rate", ood="letters8")
    right = of.all(**plain, metric="accuracy")
    assert [row.get("counted") for row in right] == [None, "before rejection"] and right[0].value == right[1].value
    for name, networks in content["each"].items():
        system, base = name.rsplit(", ", 1)
        near = measure.distances([{"each": each} for each in networks], "l2")
        assert near.shape == (2, 10)
        for size in (0.25, 0.5, 1):
            share = of(system=system, base=base, metric="robust accuracy", norm="l2", epsilon=size)
            assert np.mean(near > size * (1 + 1e-5)) == pytest.approx(share)
        assert {one for each in networks for one in each["l2"]["found by"]} <= {None, *attacker_names()}
    for table in tables.TABLES["board"].values():
        assert table(of).count("\n") >= 1
    assert "no defense, clean" in tables.curve(of)
    assert content["settings"]["base, clean"] == "Adam; 3 epochs; cross entropy; test accuracy 0.98, 0.98; plain, plain"

    monkeypatch.setattr(board, "measured", lambda *_: pytest.fail("a finished part was measured again"))
    again = Context("board", "digits", True, 10, None, path / "elsewhere", made[0].cache)
    board.run(again, seeds=2)
    assert again.used == made[0].used and again.rows == made[0].rows


def test_the_finding_has_five_lines_the_first_of_each_kind():
    order = [("AnyOf + DNR", BOTH), ("confidence", ADVERSARIAL), ("DNR", ADVERSARIAL), ("no defense", ADVERSARIAL)]
    order += [("confidence", CLEAN), ("dustbin", JOINED), ("no defense", CLEAN)]
    rows = []
    for place, (system, base) in enumerate(order):
        about = {"system": system, "base": base.name, "n": 10}
        flags = ("longer search, l2",) if place == 2 else ()
        rows.append(make("board", "median distance", 9.0 - place, norm="l2", flags=flags, **about))
        rows += [make("board", "robust accuracy", 0.5, norm=norm, epsilon=size, compared=True, **about) for norm, size in SIZES]
        rows += [make("board", "accuracy", 0.9, **about), make("board", "false-positive rate", 0.05, **about)]
    content = dict.fromkeys(("protocol", "dataset", "commit", "seconds", "machine", "versions", "settings"), "")
    of = Results(content | {"rows": [row.plain() for row in rows]})
    lines = [line.strip("| ").split(" | ") for line in tables.finding(of).splitlines()[2:]]
    assert [line[0] for line in lines] == ["1", "3", "4", "5", "7"]
    assert lines[1] == ["3", "DNR", "adversarially trained", "≤ 7.00", "50 %", "90 %", "5 %"]
    grey = tables.linf(of).splitlines()
    size = next(size for norm, size in SIZES if norm == "linf")
    assert grey[0] == f"| defense | base | linf {255 * size:.3g}/255 |" and grey[4] == "| DNR | adversarially trained | ≤ 50 % |"
    assert tables.finding(Results(content | {"rows": []})).startswith("No system has a rank")


def attacker_names():
    return {"minimum norm, l2", "longer minimum norm", "quick-1", "standard-1"}


def test_a_joined_base_without_its_dustbin_is_a_classifier_of_the_classes(places):
    context = Context("board", "digits", True, 10, None, places[0], places[0])
    model = board.build(context, SETUP, System("no defense", BOTH), 2, None)
    assert places[1] == [("digits_joined_pgd", 2)]
    x = td.data.load("digits", "test").x
    whole = keras.models.load_model(places[0] / "joined" / "model.keras", compile=False)
    assert model.output.shape[-1] == 10
    np.testing.assert_allclose(model(x), np.asarray(whole(x))[:, :10], atol=1e-6)


def test_a_harder_search_that_finds_more_is_told(monkeypatch):
    search = attacker._Search.__new__(attacker._Search)
    x = np.zeros((40, 2), "float32")
    evidence = attacker_evidence(x)

    class Protocol:
        def __init__(self):
            self.x, self.y, self.evidence, self.view = x, np.zeros(40, int), evidence, None
            self.plan = type("Plan", (), {"norms": ("l2",), "compared": {"l2": 1.0}})

        def judged(self, x_adv, adversarial, y):
            # Wrong is whatever lies beyond half a pixel.
            return type("Outcomes", (), {"wrong": np.abs(x_adv).max(-1) > 0.5})

    search.__init__(attacker.Attacker(checked=20), Protocol())

    def moved(by):
        def attack(view, x, y, only):
            found = np.where(only, by, 0).astype("float32")
            return type("Result", (), {"x_adv": np.stack([found, 0 * found], 1), "steps": np.full(len(x), 3)})

        return attack

    every = np.arange(40)
    assert list(search.run(moved(2.0), "first", every)) == list(every)
    assert list(search.run(moved(0.4), "near", every)) == [], "what the model has right is no example"
    search.run(moved(0.9), "second", np.arange(10))
    assert evidence.robust_accuracy("l2", 1.0) == 0.75
    monkeypatch.setattr(search, "suite", lambda name, norm, size: moved(0.8 if name == "standard-1" else 0.95))
    monkeypatch.setattr(search, "search", lambda norm, steps, seed: moved(0.6))
    checks = search.harder()
    # All 20 that were tried of the 30 left; the median of the first 20 falls from 0.8 to 0.6.
    assert checks == {"standard-1, l2": pytest.approx(0.75), "longer search, l2": pytest.approx(1 - 0.6 / 0.85)}
    assert search.steps["first"] == 120 and search.names[evidence.finder["l2"][0]] == "longer minimum norm"


def attacker_evidence(x):
    from tfdefense.reporting.evidence import Evidence

    return Evidence(x, np.zeros(len(x), bool), ("l2",))


def test_codes_are_searched_along_their_surrogate(classifier, digits, held_out):
    guarded = td.SafetyNet(["conv_1"]).attach(classifier)
    x_adv = td.attacks.BIM(0.25)(classifier, digits.x[:400], digits.y[:400]).x_adv
    td.adapt(guarded, digits.x[:400], digits.y[:400], adversarial=x_adv, calibration=held_out.x[:200], max_rejected=0.05)
    images = held_out.take(np.arange(200, 220))
    protocol = types.SimpleNamespace(view=View.of(guarded), images=images, plan=None, evidence=None)
    search = attacker._Search(SHORT, protocol).search("l2", 20)
    assert isinstance(search, td.attacks.BPDA) and "sample" in search.attack.starts and search.attack.steps == 20
    assert search(guarded, images.x, images.y).success.all()


def test_a_base_that_was_trained_to_reject_brings_its_defense(places, classifier, monkeypatch):
    keras.utils.set_random_seed(0)
    td.RectifiedRejection(width=4).attach(classifier).save(places[0] / "plain" / "model.keras")
    context = Context("board", "digits", True, 10, None, places[0], places[0])
    samples = board.Samples(context, SETUP)
    x = samples.held_out.x
    found = {
        name: board.build(context, SETUP, System(name, systems.RECTIFIED), 0, samples)
        for name in ("no defense", "rectified confidence", "confidence")
    }
    assert not td.contract.is_defended(found["no defense"])
    np.testing.assert_allclose(found["no defense"](x), classifier(x), atol=1e-5)
    for name in ("rectified confidence", "confidence"):
        assert 0.005 < (np.asarray(found[name](x)["label"]) == -1).mean() <= board.MAX_REJECTED
        own = any(isinstance(layer, td.layers.Rectifier) for layer in found[name].layers)
        assert own == (name == "rectified confidence")


def test_entries_are_systems_whose_base_the_data_set_has():
    for name, setup in board.SETUPS.items():
        found = systems.entries(setup.recipes, setup.left_out, False, None)
        assert len({system.key for system in found}) == len(found), "rows of one name could not be told apart"
        assert {system.base.name for system in found} == set(setup.recipes), name
        keys = {system.key for system in found}
        assert all(system.over in keys for system in found if system.over), "what is compared stands on the board"
    assert 12 <= len(systems.SYSTEMS) <= 24
    recipes = board.SETUPS["mnist"].recipes
    assert [s.base for s in systems.entries(recipes, (), True, "DNR")] == [CLEAN, ADVERSARIAL]
    with pytest.raises(ValueError, match="`--only` must be one of no defense, confidence"):
        systems.entries(recipes, (), False, "DRN")


def test_a_part_does_not_take_the_place_of_the_whole(places):
    options = {"dataset": "digits", "quick": False, "samples": 10, "data_dir": None, "output": None}
    for name, protocol, own in (
        ("board", board, {"steps": 2, "seeds": None, "only": "DNR"}),
        ("nearest", nearest, {"only": "digits_cnn.dnr"}),
        ("outsiders", outsiders, {"only": "digits_cnn.dnr", "peers_python": None, "limit": 1}),
    ):
        with pytest.raises(ValueError, match=f"`--only` is a part of `{name}` .* another folder with `--output`"):
            command.execute(name, protocol, **options, **own)


def measured(*distances, checks=None, calibrated=True, rejected=0.05):
    """What was found on networks, a list of distances for each."""
    clean = {"right": 0.9, "before_rejection": 0.92, "rejected": rejected, "wrong": 0.05}
    about = {"clean": clean, "benign": [{"rejected": 0.1}, {"rejected": 0.3}], "ood": [{"what": "letters", "rejected": 0.7}]}
    about |= {"checks": checks or {}, "calibrated": calibrated}
    found = []
    for each in distances:
        known = [None if np.isinf(one) else float(one) for one in each]
        found.append(about | {"each": {"l2": {"distance": known, "found by": ["PGD"] * (len(known) - 1) + [None]}}})
    return found


def rows_of(found, tmp_path, sizes=(1, 2), compared=None):
    context = Context("board", "digits", True, 10, None, tmp_path, tmp_path)
    measure.add_rows(context, found, {"l2": 1} if compared is None else compared, {"l2": sizes})
    return Results({"rows": [row.plain() for row in context.rows]})


def test_where_the_attack_failed_there_is_no_rank(tmp_path):
    found = {
        System("beyond", CLEAN): measured([0.5, np.inf, np.inf, np.inf]),
        System("second", CLEAN): measured([0.5, 0.7, 1.1, 1.5]),
        System("first", CLEAN): measured([0.5, 0.95, 0.95, 2]),
    }
    of = rows_of(found, tmp_path)
    assert [(row.system, row.value) for row in tables.ranked(of)] == [("first", 0.95), ("second", pytest.approx(0.9))]
    beyond = of.one(system="beyond", metric="median distance")
    assert beyond.value is None and "the attack failed" in beyond.note and beyond.flags == ("an example for each sample",)
    assert of(system="first", metric="robust accuracy", epsilon=1) == 0.25
    assert of(system="second", metric="robust accuracy", epsilon=1) == 0.5
    assert of(system="first", ood="letters") == 0.7 and of(system="first", perturbation="worst case") == 0.3
    assert of.one(system="first", metric="median distance").get("found most by") == "PGD"
    shown = tables.board(of).splitlines()
    assert shown[2].startswith("| 1 | first | clean | 0.95 |") and shown[-1].startswith("| - | beyond | clean | - |")
    assert tables.leaders(Results({"rows": []})) == "No system has a rank: the attack failed on all of them."


def test_what_rejection_costs_is_told_where_it_was_measured(tmp_path):
    found = {
        System("CPR", ADVERSARIAL): measured([0.5, 0.7, 1.1, 1.5]),
        System("no defense", CLEAN): measured([0.1, 0.2, 0.3, 0.4]),
    }
    assert tables.cost(rows_of(found, tmp_path)).startswith("Not measured: `python -m evaluation board --dataset mnist`")
    forced = {"norm": "l2", "distance": [0.05, None, 0.0, 2.0], "right": [True, True, False, True]}
    for one in found[System("CPR", ADVERSARIAL)]:
        one |= {"forced": forced, "noise": {"size": 0.15, "rejected": 0.25}}
    of = rows_of(found, tmp_path)
    about = {"system": "CPR", "metric": "forced rejection rate", "norm": "l2"}
    assert of(**about, epsilon=0.05) == of(**about, epsilon=1.0) == pytest.approx(1 / 3)
    # At alpha 0 the clean rejection and the two that are broken within 1.
    assert of(metric="stratified error", alpha=0.0) == of(metric="stratified error", alpha=1.0) == 0.75
    implied = of.one(metric="implied robust accuracy")
    assert implied.value == 0.25 and implied.epsilon == 0.5 and implied.paper is None
    shown = tables.cost(of).splitlines()
    assert len(shown) == 3 and "| 25 % | 33 % |" in shown[2] and shown[2].endswith("| not known here |")


def test_a_check_that_failed_on_all_networks_together_marks_the_row(tmp_path):
    some = [0.5, 0.7, 1.1, 1.5]
    little = measured(some, checks={"thorough-1, l2": 0.05}) + measured(some, checks={"thorough-1, l2": -0.02})
    much = measured(some, checks={"thorough-1, l2": 0.05}) + measured(some, checks={"thorough-1, l2": 0.0})
    assert measure.failed(little) == () and measure.failed(much) == ("thorough-1, l2",)
    assert measure.failed(much + measured(some, some)) == ("thorough-1, l2",), "networks that were not searched harder say nothing"
    assert measure.failed(measured(some, calibrated=False)) == ("rejects clean samples as calibrated",)
    of = rows_of({System("DNR", CLEAN): much, System("K-density", CLEAN): little}, tmp_path)
    shown = tables.leaders(of)
    assert "| DNR | clean | ≤ 0.90 |" in shown and "| K-density | clean | 0.90 |" in shown
    assert "≤ 50 %" in shown, "the robust accuracy is an upper bound as well"


def test_intervals_hold_samples_and_networks(tmp_path):
    rng = np.random.default_rng(1)
    near = rng.uniform(0.5, 1.5, 101)
    same = rows_of({System("DNR", CLEAN): measured(near, near, near)}, tmp_path).one(metric="median distance")
    apart = rows_of({System("DNR", CLEAN): measured(near - 0.4, near, near + 0.4)}, tmp_path).one(metric="median distance")
    assert same.value == pytest.approx(np.median(near)) and same.deviation == pytest.approx(0, abs=1e-9)
    # The interval of a median by the binomial of its rank.
    low, high = np.sort(near)[[40, 60]]
    assert same.interval == pytest.approx((low, high), abs=0.05)
    assert apart.deviation == pytest.approx(0.4)
    assert apart.interval[1] - apart.interval[0] > 2 * (same.interval[1] - same.interval[0]), "networks that differ widen it"


def test_systems_are_compared_on_the_same_samples_and_networks(tmp_path):
    near = np.linspace(0.2, 1.4, 41)
    found = {
        System("no defense", CLEAN): measured(near, near + 0.6),
        System("DNR", CLEAN, ("no defense", "clean")): measured(near + 0.2, near + 0.8, checks={"longer search, l2": 0.1}),
        System("DNR", ADVERSARIAL, ("no defense", "clean")): measured(near + 0.2, near + 0.8),
        System("RCE", CLEAN, ("not there", "clean")): measured(near, near),
    }
    of = rows_of(found, tmp_path)
    row, other = of.all(table="board.comparison")
    assert (row.system, row.base, row.get("over"), row.get("over base")) == ("DNR", "clean", "no defense", "clean")
    assert row.value == pytest.approx(0.2) and row.flags == ("longer search, l2",)
    low, high = row.interval
    # Every sample on every network is harder by the same: which of them are drawn hardly moves the difference.
    assert high - low < 0.05
    # The networks of two bases have nothing in common.
    low, high = other.interval
    assert other.base == "adversarially trained" and high - low > 0.5
    assert "| DNR (clean) | no defense (clean) | 0.20 |" in tables.comparisons(of)


def test_machines_are_fitted_on_what_no_network_has_seen():
    for dataset, (seen, fitted, total) in {"mnist": (45_000, 5_000, 60_000), "cifar10": (40_000, 4_000, 50_000)}.items():
        samples = board.Samples(Context("board", dataset, False, 10, None, None, None), board.SETUPS[dataset])
        x = np.arange(total, dtype="float32").reshape(-1, 1, 1, 1)
        samples.train = td.data.Images(x, np.zeros(total, int), (), dataset, "train", (0.0, 1.0))
        mine, held_out, others = (each.x.ravel() for each in (samples.fitted, samples.held_out, samples.others))
        assert len(set(mine)) == len(set(others)) == fitted and not set(others) & set(mine)
        assert min(mine.min(), others.min()) >= seen + 2000
        assert held_out.min() == seen and held_out.max() == seen + 1999


def test_networks_have_seen_what_the_setup_says():
    from training import recipe as recipes

    for setup in board.SETUPS.values():
        for base in BASES:
            if base.name not in setup.recipes:
                continue
            recipe = recipes.find(setup.recipes[base.name]).changed(**setup.settings)
            assert recipe.train_samples == setup.seen
            assert bool(recipe.dustbin) == (recipe.loss == "reverse_cross_entropy") == base.joined
            assert (recipe.attack is not None) == base.adversarial


def test_a_system_of_several_defenses_is_a_combination():
    for name, defense in systems.DEFENSES.items():
        assert defense.combined == (defense.make is not None and isinstance(defense.make(td, SETUP), td.AnyOf)), name
