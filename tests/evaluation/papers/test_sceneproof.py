"""The protocol of SceneProof on rendered rooms: what it measures, and the paper's numbers beside it."""

import dataclasses
import json
import pickle
import types
from pathlib import Path

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import zoo, zoo_scene
from evaluation.papers.sceneproof import measure, names, protocol, tables
from evaluation.papers.sceneproof import setting as settings
from evaluation.papers.sceneproof.figures import attacks_of, kinds_of
from evaluation.papers.sceneproof.files import WholeParts
from evaluation.papers.sceneproof.measure import flags, rates
from evaluation.papers.sceneproof.names import ATTACKS, BRANCH, WORST_CASE
from evaluation.papers.sceneproof.setting import MASK, Setting
from evaluation.runner.context import Context
from evaluation.runner.rows import Results, beside_paper, make, paper_numbers
from models.scene import depth_net, resnet_scene, vgg_scene
from tfdefense.data import scenes
from tfdefense.data.images import Images
from tfdefense.data.rendering import render_scene


def test_rates_are_those_of_the_paper(monkeypatch):
    y = np.array([0] * 4 + [1] * 5)
    label = np.array([1, 0, -1, -1, 1, 0, -1, -1, 1], "int32")
    guess = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1])
    outcomes = td.metrics.Outcomes.of(label, y, guess=guess)
    monkeypatch.setattr(td, "evaluate", lambda *_: outcomes)
    found = rates(None, None, y)
    assert (found["F->T"], found["T->F"], found["T->T rejected"]) == (0.25, 0.2, 0.2)
    assert (found["T rejected"], found["F rejected"]) == (0.4, 0.5)
    assert found["right before rejection"] == pytest.approx(5 / 9)


def test_paper_has_the_numbers_of_its_tables():
    numbers = paper_numbers(Path(protocol.__file__).parent)

    def paper(metric, table="lu2017.table4", **fields):
        return beside_paper(make(table, metric, 0.0, **fields), "nyu_depth_v2_small", numbers).paper

    assert (
        paper("F->T", attack="type II", system="Det ABC")
        == paper("F->T", attack="type II", system="Det ABC", threshold="0")
        == 0.132
    )
    assert paper("T->T rejected", attack="type I transfer from a ResNet, gradient", system="Det A") == 0.291
    assert paper("T->F", attack="type II transfer from a ResNet, fine-tuned", system="plain") == 0.403
    for kind, group in (("type I", names.TYPE_ONE), ("type II", names.TYPE_TWO)):
        for rate, system in (("F->T", "plain"), ("T->F", "Det A"), ("T->T rejected", BRANCH)):
            mean = np.mean([paper(rate, attack=attack, system=system) for attack in group])
            assert paper(rate, attack=f"{kind}, mean", system=system) == pytest.approx(mean, abs=2e-3), (kind, rate)
    assert paper("T->F", attack="type I", system="plain", epsilon=1 / 255) == 0.553
    assert paper("T->F", attack="type I", system="plain", pairs="held out") is None
    assert paper("T->T rejected", attack="type I", system="plain") is None
    assert paper("F->T", "lu2017.table1", system="Det A", forgery="mean over unfamiliar ones") == 0.173
    assert paper("T->F", attack="type II transfers, mean", system="Det A") == 0.098
    assert paper("T->F", attack="type II transfers, mean", system="Det ABC") is None
    assert paper("F->T", attack=WORST_CASE, system="Det A") is None
    flagged = {"table": "lu2017.table3", "detector": "A or B, of those taken for true"}
    assert (
        paper("rejection rate", **flagged, pairs="no depth") == 0.82 and paper("rejection rate", **flagged, pairs="swapped") is None
    )


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Rendered rooms, networks that have learned nothing, and everything small."""
    folder = tmp_path_factory.mktemp("sceneproof")
    keras.utils.set_random_seed(0)
    networks = {"depth": depth_net((64, 64, 3), width=1)}
    rooms = np.stack([render_scene(np.random.default_rng(number), (64, 64)) for number in range(64)])
    # Three detectors, joined, are calibrated on no fewer than 29.
    pairs = {"train": rooms[:50], "test": rooms[50:]}
    for name in ("classifier", "other"):
        networks[name] = vgg_scene((64, 64, 4), width=2)
    networks["resnet"] = resnet_scene((64, 64, 4), depth=8, width=2)
    for name, model in networks.items():
        model.save(folder / f"{name}.keras")
    context = Context("sceneproof", "nyu_depth_v2_small", True, None, None, folder / "out", folder / "parts")
    paths = {name: folder / f"{name}.keras" for name in networks}
    made = Setting(context, paths, (10, 20), number=5, few=3, epsilon=0.1, steps=3, epochs=(1, 1))
    images = {split: Images(x / np.float32(255), np.arange(len(x)), (), "rooms", split, (0, 1)) for split, x in pairs.items()}
    patch = pytest.MonkeyPatch()
    patch.setattr(td.data, "load", lambda name, split, **_: images[split])
    made.pairs  # noqa: B018 - read once, while rooms are what is loaded
    patch.undo()
    return made


def test_parts_are_of_their_own_scenes(setting):
    real, guessed = setting.pairs["train"]
    assert len(setting.scenes("fitted").x) == 20 and len(setting.scenes("held out").x) == 60
    np.testing.assert_allclose(setting.scenes("fitted").x[:10], real[10:20], atol=1e-6)
    parts = np.rint(np.concatenate([real, np.repeat(guessed, 4, -1)])[..., 3].astype("float64") * 65535)
    assert (parts % 257 != 0).mean() > 0.9, "depth is finer than its 8 bits, real and guessed"
    np.testing.assert_allclose(setting.scenes("held out").x[:30], real[20:], atol=1e-6)
    x, y = setting.attacked
    assert y.tolist() == [1] * 5 + [0] * 5 and guessed.shape == (50, 64, 64, 1)


# What comes from the ResNet is crafted in the same way: see the test of transfers.
TYPE_2 = [attack for attack in ATTACKS if attack.startswith("type II") and "ResNet" not in attack]


@pytest.mark.parametrize("attack", ["type I", "type I transfer, fast sign", "type I transfer from a ResNet, fast sign", *TYPE_2])
def test_attacks_change_depth_alone(setting, attack):
    x, y = setting.attacked
    x_adv = setting.under(attack, "Det A")
    np.testing.assert_array_equal(x_adv, scenes.as_in_files(x_adv))
    if attack == WORST_CASE:
        x = x[setting.first]
    np.testing.assert_array_equal(x_adv[..., :3], x[..., :3])
    moved = np.abs(x_adv - x)[..., 3].reshape(len(x), -1).max(-1)
    assert 0 < moved.max() <= 0.1 + 0.51 / 65535 and MASK == (False, False, False, True)


def test_search_is_on_what_a_file_holds(setting):
    """Changes between two values of 16 bits are lost in a file: one that counts on them finds nothing there."""
    model, (x, y) = setting.network("classifier"), setting.attacked
    behind = setting.as_attacked(model)
    x = np.clip(x, 0.1, 0.9)
    x = scenes.as_in_files(x)
    np.testing.assert_allclose(behind(x), model(x), atol=1e-6)
    rounded = WholeParts()
    for steps, channel in ((255, 0), (65535, 3)):
        moved = x.copy()
        moved[..., channel] += np.float32(0.3 / steps)
        np.testing.assert_allclose(rounded(moved), x, atol=1e-7)
        moved[..., channel] += np.float32(0.4 / steps)
        found = (rounded(moved).numpy() - x)[..., channel]
        np.testing.assert_allclose(found, 1 / steps, rtol=0.02, err_msg="the next one that a file holds")
    fooled = setting.gradient(early_stop=True)(behind, x, y, mask=MASK)
    in_a_file = scenes.as_in_files(fooled.x_adv)
    np.testing.assert_array_equal(td.evaluate(model, in_a_file, y).label, fooled.label)
    assert fooled.success.any() and (fooled.x_adv != in_a_file).any(), "or this says nothing"


def test_size_of_the_attacks_is_that_under_which_the_network_fares_as_in_the_paper():
    both = {"0.01": (0.2, 0.3), "0.02": (0.35, 0.5), "0.04": (0.9, 1.0)}
    tried = {size: {"F->T": one, "T->F": other} for size, (one, other) in both.items()}
    assert settings._as_in_the_paper(tried) == 0.02


def test_sizes_are_tried_on_held_out_pairs_and_change_depth_alone(setting, monkeypatch):
    held_out = setting.scenes("held out")
    seen = []
    original = measure.rates
    monkeypatch.setattr(measure, "rates", lambda model, x, y: seen.append((x, y)) or original(model, x, y))
    assert tuple(float(size) for size in setting.by_size()) == settings.SIZES, "of which one is taken as it is"
    for size, (x, y) in zip(settings.SIZES, seen, strict=True):
        nearest = [np.abs(held_out.x[held_out.y == label] - one).max((1, 2, 3)).min() for one, label in zip(x, y, strict=True)]
        assert max(nearest) <= size + 1e-6, "the sizes are whole parts of 65535, which rounding leaves in the ball"


def test_worst_case_is_tried_on_the_first_of_each_label(setting):
    assert setting.attacked[1][setting.first].tolist() == [1] * 3 + [0] * 3


def test_pairs_that_pass_one_system_and_not_the_other_are_counted(setting):
    rows = []
    context = types.SimpleNamespace(
        row=lambda table, metric, value, **about: rows.append((value, about["passes"], about["attack"]))
    )
    passed = {"plain": [0] * 5 + [1, 1, 1, 0, -1], BRANCH: [1] * 5 + [1, 0, 0, 0, 0], "Det ABC": [1] * 5 + [-1, 1, 0, 1, 1]}
    found = {("attacked", "type I", name): {"label": label} for name, label in passed.items()}
    protocol._paired_rows(context, setting.attacked[1], found)
    assert rows == [(2, "plain", "type I"), (2, "Det ABC", "type I"), (1, BRANCH, "type I"), (3, "Det ABC", "type I")]


def test_parts_share_one_setting_in_a_process(setting):
    first, second = (pickle.loads(pickle.dumps(setting)) for _ in range(2))
    assert first is second and first is not setting
    assert (first.epsilon, first.number, first.networks) == (setting.epsilon, setting.number, setting.networks)


def test_detectors_reject_as_many_real_pairs_as_was_asked(setting):
    held_out = setting.scenes("held out")
    real = held_out.x[held_out.y == 1]
    for name in (BRANCH, "Det A", "Det ABC"):
        outcomes = td.evaluate(setting.system(name), real, np.ones(len(real), int))
        # Of 30 the third is the threshold, or the last of three; fewer lie above where several have the same codes.
        falling = np.sort(outcomes.suspicion)[::-1]
        assert len(real) == 30 and outcomes.rejected.sum() <= 2, name
        if name == BRANCH and falling[1] - falling[2] > 1e-4:
            assert outcomes.rejected.sum() == 2


def test_detectors_learn_from_pairs_that_were_attacked_as_files_hold_them(setting):
    clean, adversarial, sources, _ = setting.fitting("classifier")
    np.testing.assert_array_equal(adversarial, scenes.as_in_files(adversarial))
    assert 0 < len(adversarial) < len(clean.x), "what the network has wrong is not attacked"
    assert clean.source.tolist() == np.repeat(np.arange(10), 2).tolist() and clean.y.tolist() == 10 * [1, 0]
    moved = np.abs(clean.x[sources] - adversarial).max((1, 2, 3))
    assert 0 < moved.min() and moved.max() <= 0.1 + 1 / 65535, "each beside the pair that it was made from"


def test_paper_s_rule_is_a_threshold_of_zero_on_the_same_detectors(setting):
    x, _ = setting.attacked
    for name in (BRANCH, "Det A", "Det ABC"):
        usual, zero = setting.system(name), setting.system(f"{name}{names.ZERO}")
        scores = [layer.input for layer in zero.layers if isinstance(layer, td.layers.Threshold)]
        values = [np.ravel(value) for value in keras.Model(zero.inputs[0], scores)(x)] if len(scores) > 1 else None
        values = values or [np.ravel(keras.Model(zero.inputs[0], scores[0])(x))]
        np.testing.assert_allclose(zero(x)["suspicion"], np.max(values, 0), atol=1e-4)
        assert np.abs(usual(x)["suspicion"] - zero(x)["suspicion"]).max() > 1e-3, "the usual threshold stays"


@pytest.mark.slow
def test_transfers_from_the_residual_network_are_crafted_on_it(setting):
    searches = {attack: setting._transfer(attack) for attack in ATTACKS if "transfer" in attack}
    resnet, other = setting.network("resnet"), setting.network("other")
    assert searches["type I transfer from a ResNet, gradient"][1] is resnet and searches["type I transfer, gradient"][1] is other
    assert searches["type I transfer from a ResNet, fast sign"][1] is resnet
    branch = searches["type II transfer from a ResNet, with a branch"][1]
    assert branch is setting.system(BRANCH, "resnet") and td.contract.is_defended(branch)
    tuned = searches["type II transfer from a ResNet, fine-tuned"][1]
    assert tuned.get_layer("stage_3").output.shape == resnet.get_layer("stage_3").output.shape
    assert any((a != b).any() for a, b in zip(tuned.get_weights(), resnet.get_weights(), strict=True))


def test_benign_perturbations_leave_a_real_pair(setting):
    changes = setting.benign
    real = setting.scenes("test").x[setting.scenes("test").y == 1]
    noisy = changes["depth with sign noise of 39.2 mm"]
    np.testing.assert_array_equal(noisy[..., :3], real[..., :3])
    assert np.abs(noisy - real).max() == pytest.approx(1 / 255, abs=1e-6)
    assert all(len(x) == len(real) and x.min() >= 0 and x.max() <= 1 for x in changes.values()) and len(changes) == 4


def test_flags_join_two_detectors(setting):
    found = flags(setting, *setting.attacked)
    assert found["A and B"] <= min(found["A"], found["B"]) <= max(found["A"], found["B"]) <= found["A or B"]
    assert found["A"] + found["B"] == pytest.approx(found["A and B"] + found["A or B"])


@pytest.mark.long
def test_model_of_the_zoo_is_a_small_file_that_loads_and_its_card_says_how_it_falls(setting, tmp_path):
    fitted, calibrated, test = zoo_scene.divided(setting)
    assert fitted.y.tolist() == 10 * [1, 0] and test.y.tolist() == 14 * [1, 0] and set(calibrated.y) == {1}
    model = zoo_scene.build(setting)
    assert td.contract.class_names(model) == ("forged", "real") and td.contract.unready(model) is None
    found = zoo.attacked(lambda: (fitted, test), model, "linf", (0.02, 0.2), 4, 2, zoo_scene.SUITE, np.array(MASK))
    robust = [row["robust_accuracy"] for row in found["sizes"]]
    assert robust[0] >= robust[1] and all(row["n"] == 4 for row in found["sizes"])
    rows = [{"suite": zoo_scene.SUITE, "steps": 2, "norm": "linf", "epsilon": 0.2, "changes": "depth alone"} | found["sizes"][1]]
    measured = {"clean": zoo.clean(model, test), "attacked": rows, "unfamiliar": zoo_scene.unfamiliar(setting, model)}
    measured |= {"commit": "abc", "versions": {}}
    entry = zoo.ENTRIES[zoo_scene.NAME]
    card = zoo.fitted(setting.context, zoo_scene.NAME, entry, model, measured, tmp_path)
    (tmp_path / f"{zoo_scene.NAME}.json").write_text(json.dumps(dataclasses.asdict(card)))
    model.save(tmp_path / "as-keras-writes-it.keras")
    assert card.bytes < 0.9 * (tmp_path / "as-keras-writes-it.keras").stat().st_size
    loaded = td.zoo.load(zoo_scene.NAME, cards=tmp_path)
    for name, value in model(test.x[:4]).items():
        np.testing.assert_array_equal(loaded(test.x[:4])[name], value)
    again = td.zoo.card(zoo_scene.NAME, cards=tmp_path)
    assert set(again.unfamiliar) == set(scenes.UNFAMILIAR) and again.recipe == "python -m training nyu_scene"
    made = []
    told = types.SimpleNamespace(dataset=entry.dataset, row=lambda *fields, **about: made.append((*fields[:2], about)))
    zoo._rows(told, again)
    assert [about["changes"] for _, metric, about in made if metric == "robust accuracy"] == ["depth alone"]
    assert [about["forgery"] for _, metric, about in made if metric == "F->T"] == list(scenes.UNFAMILIAR)


def test_attacks_that_got_through_are_drawn(setting, tmp_path, monkeypatch):
    x, y = setting.attacked
    changed = np.clip(x + np.float32(0.1) * np.array(MASK, "float32"), 0, 1)
    label = td.evaluate(setting.network("classifier"), changed, y).label
    monkeypatch.setitem(setting.__dict__, "attacked", (x, 1 - label))
    # One of them leaves the pairs as they were: nothing got through.
    monkeypatch.setattr(setting, "under", lambda attack, system: changed if attack == "type I" else x)
    attacks_of(setting, tmp_path, columns=2, shown=(("type I", "plain"), ("type II", "plain")))
    assert [path.name for path in tmp_path.glob("*.png")] == ["type-I-plain.png"]


def test_pictures_are_drawn(setting, tmp_path):
    kinds_of(setting, tmp_path, columns=2)
    assert {path.stem for path in tmp_path.glob("*.png")} == {
        kind.replace(" ", "-") for kind in ("real", *scenes.FAMILIAR, *scenes.UNFAMILIAR)
    }


@pytest.mark.long
def test_rows_of_all_systems_and_attacks_stand_beside_the_papers(setting, tmp_path, monkeypatch):
    context = setting.context
    (tmp_path / "config.json").write_text('{"train_samples": 650}')
    # The others are tested one by one; what they take is compiled for each system.
    attacks = ("type I", "type I transfer, gradient")
    monkeypatch.setattr(settings, "Setting", lambda *_, **__: setting)
    monkeypatch.setattr(names, "ATTACKS", attacks)
    monkeypatch.setattr(names, "MEANS", dict.fromkeys(names.MEANS, attacks))
    monkeypatch.setattr("evaluation.papers.sceneproof.figures.attacks_of", lambda *_: None)
    monkeypatch.setattr(setting, "_worst_case", lambda system, x, y, epsilon: setting.gradient(epsilon=epsilon))
    monkeypatch.setattr(Context, "network", lambda *_, **__: tmp_path / "model.keras")
    protocol.run(context, epsilon=0.1, steps=3, width=2)
    about = {"protocol": context.protocol, "dataset": context.dataset, "settings": context.settings}
    of = Results({"rows": [row.plain() for row in context.rows]} | about)
    for threshold in (None, "0"):
        assert of.one(system="Det ABC", metric="F->T", attack="type I", pairs=None, threshold=threshold).paper == 0.084
    errors = {row.system: row for row in of.all(table="lu2017.ours.depth")}
    assert set(errors) == {"depth network", "median of the training depths"}
    assert all(row.interval[0] < row.value < row.interval[1] and row.n == 14 for row in errors.values())
    assert errors["depth network"].value == pytest.approx(setting.depth_errors["depth network"].mean())
    assert of.one(table="lu2017.ours.clean", metric="accuracy").n == 28
    for system in names.SYSTEMS:
        about = {"table": "lu2017.table4", "system": system, "metric": "F->T", "epsilon": 0.1, "pairs": None, "threshold": None}
        single = [of(**about, attack=attack) for attack in attacks]
        assert of(**about, attack="any of these") >= max(single)
        assert of(**about, attack="type I, mean") == pytest.approx(np.mean(single))
        assert of.all(system=system, metric="T->F", perturbation="depth with sign noise of 39.2 mm")
        assert of.all(table="lu2017.table1", system=system, forgery="rendered")
    assert of.one(system="Det ABC", attack=WORST_CASE, epsilon=0.8).n == 5
    assert of.one(system="Det A", attack="type I transfers, mean", metric="F->T", threshold=None).paper == 0.046
    assert of.one(system="Det A", attack="type I, mean", metric="F->T", threshold=None).paper == 0.06
    assert of.one(system=BRANCH, attack="type II, mean", metric="T->F", threshold=None).paper == 0.145
    assert not of.all(system="plain", metric="T->T rejected") and of.all(detector="A or B", pairs="rendered")
    assert context.settings["fitted on scenes"] == 0
    for table in tables.TABLES["sceneproof"].values():
        assert table(of).count("\n") > 2
