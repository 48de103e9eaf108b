"""The OOD board: its rates, its search against known answers, and the protocol from one end to the other on digits."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.ood import measure, protocol, sets, systems, tables
from evaluation.benchmarks.ood.rates import Rates
from evaluation.benchmarks.ood.search import ACCEPT, REJECT, Search, spreads
from evaluation.benchmarks.ood.settings import SETUPS
from evaluation.benchmarks.ood.study import Study, divided, with_dustbin
from evaluation.runner import command, pages, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results

SIZE = 0.1


def test_rates_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    known, ood = (
        rng.normal(0, 1, 97),
        {"a": rng.normal(1, 1, 60).round(1), "b": np.append(rng.normal(2, 1, 30), [np.inf, np.nan])},
    )
    rates = Rates(known.round(1), ood, draws=300)
    for name, values in ood.items():
        value, (low, high) = rates.of("auroc", [name])
        assert value == pytest.approx(td.metrics.auc(known.round(1), np.nan_to_num(values, nan=np.inf, posinf=np.inf)))
        assert low < value < high
        # Of 97 known samples 93 must be accepted.
        threshold = np.sort(known.round(1))[92]
        assert rates.of("fpr", [name])[0] == pytest.approx(np.mean(values <= threshold))
    both = [np.mean([rates.of(metric, [name])[0] for name in ood]) for metric in ("auroc", "fpr")]
    assert [rates.of(metric, list(ood))[0] for metric in ("auroc", "fpr")] == pytest.approx(both)


def test_intervals_hold_the_true_area_in_95_of_100_draws():
    inside = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        value, (low, high) = Rates(rng.normal(0, 1, 80), {"a": rng.normal(1, 1, 80)}, draws=200).of("auroc", ["a"])
        inside += low <= 0.7602 <= high  # the normal distribution function at 1 / sqrt 2
    assert 51 <= inside <= 60


def test_two_parts_of_the_network_score_as_the_whole(classifier, digits, held_out):
    body, head = divided(classifier)
    for name, options in {"vim": {}, "react": {}, "knn": {"k": 3}}.items():
        whole = td.ThresholdDefense(name, threshold=0.0, **options).attach(classifier)
        part = td.ThresholdDefense(name, threshold=0.0, **options).attach(head, bounds=None)
        td.adapt(whole, digits.x[:300], digits.y[:300], max_rejected=None)
        td.adapt(part, np.asarray(body(digits.x[:300])), digits.y[:300], max_rejected=None)
        own, others = whole(held_out.x[:50])["suspicion"], part(np.asarray(body(held_out.x[:50])))["suspicion"]
        np.testing.assert_allclose(own, others, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="Expected a network that ends in a Dense layer on one row of features"):
        divided(keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Conv2D(3, 4), keras.layers.Flatten()]))


@pytest.fixture(scope="module")
def linear():
    """Two scores, plus and minus one linear function of 16 pixels, that reject where both are low; and the weights."""
    weights = np.random.default_rng(1).normal(size=16).astype("float32")
    image = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(image)
    logits = keras.layers.Dense(2, name="logits")
    model = keras.Model(image, logits(flat))
    bias = -0.5 * weights.sum()
    logits.set_weights([np.stack([weights, -weights], 1), np.array([bias, -bias])])
    return td.ThresholdDefense("max-logit", threshold=0.0).attach(model), weights


def test_search_finds_the_closed_form_in_both_directions(linear):
    model, weights = linear
    x = np.random.default_rng(2).uniform(0.3, 0.7, (12, 4, 4, 1)).astype("float32")
    lead, reach = np.abs((x.reshape(12, -1) - 0.5) @ weights), SIZE * np.abs(weights).sum()
    search = Search(None, model, steps=15, batch=5)
    search.aim(ACCEPT, [-1e9])
    images, own, stuck = search(x, SIZE)
    np.testing.assert_allclose(own, -(lead + reach), rtol=1e-3)
    assert np.abs(images - x).max() <= SIZE + 1e-6 and images.min() >= 0 and images.max() <= 1 and not stuck.any()
    np.testing.assert_allclose(own, model(images)["suspicion"], rtol=1e-4)
    search.aim(REJECT, [1e9])
    own = search(x, SIZE)[1]
    # Where both scores are 0 it rejects most; steps of signs come near.
    assert np.all(own <= 1e-6) and np.all(own >= -np.maximum(lead - reach, 0) - 0.02)


def test_search_ends_where_nothing_is_to_be_gained_and_begins_with_what_is_there(linear):
    model, weights = linear
    x = np.full((4, 4, 4, 1), 0.5, "float32")
    search = Search(None, model, steps=15, batch=4)
    search.aim(ACCEPT, [-0.1, 3.0])
    own = search(x, SIZE)[1]
    # Five searches of 15 steps for each of 4 images, did they not end below every other sample.
    assert np.all(own < -0.1) and search.taken <= 4 * 3
    best = x + SIZE * np.sign(weights).reshape(1, 4, 4, 1)
    search.taken = 0
    own = search(x, SIZE, tried=[best])[1]
    np.testing.assert_allclose(own, -SIZE * np.abs(weights).sum(), rtol=1e-4)
    assert search.taken == 0
    # What lies outside the ball is brought into it.
    assert np.abs(search(x, SIZE, tried=[x + 0.4])[0] - x).max() <= SIZE + 1e-6


@pytest.mark.slow
def test_codes_are_searched_through_their_surrogate(digits, classifier):
    body, head = divided(classifier)
    model = td.SafetyNet(("features",), threshold=0.0).attach(head, bounds=None)
    x = digits.x[:60]
    rows, crafted = np.asarray(body(x)), np.asarray(body(td.attacks.BIM(0.2)(classifier, x, digits.y[:60]).x_adv))
    td.adapt(model, rows, digits.y[:60], adversarial=crafted, sources=np.arange(60), max_rejected=None)
    search = Search(body, model, steps=3, batch=20)
    assert not search.sights and search.smooth is not None
    search.aim(ACCEPT, [-1e9])
    before = model(np.asarray(body(x[:6])))["suspicion"].numpy()
    images, own, _ = search(x[:6], 0.2)
    np.testing.assert_allclose(own, model(np.asarray(body(images)))["suspicion"], atol=1e-3)
    assert np.mean(own) < np.mean(before) - 0.1


def test_joined_detectors_are_seen_at_once(classifier, digits, held_out):
    body, head = divided(classifier)
    rows = np.asarray(body(digits.x[:300]))
    model = td.AnyOf(td.ThresholdDefense("energy", threshold=0.0), td.ThresholdDefense("vim", threshold=0.0)).attach(
        head, bounds=None
    )
    td.adapt(model, rows, digits.y[:300], max_rejected=None)
    spread = spreads(model, rows)
    assert spread.shape == (2,) and len(Search(body, model, spread).sights) == 2
    assert spreads(td.ThresholdDefense("energy", threshold=0.0).attach(head, bounds=None), rows) is None


@pytest.fixture
def places(classifier, tmp_path, monkeypatch):
    for name, path in (("RESULTS", "results"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(systems, "_QUICK", ("energy", "knn"))
    few = dataclasses.replace(SETUPS["digits"], attacked=6)
    monkeypatch.setitem(protocol.SETUPS, "digits", few)
    (tmp_path / "digits").mkdir()
    classifier.save(tmp_path / "digits" / "model.keras")
    return tmp_path


@pytest.mark.slow
def test_the_board_from_end_to_end(places, monkeypatch):
    options = {"dataset": "digits", "quick": True, "samples": 6, "data_dir": None, "output": None}
    options |= {"only": None, "steps": 2, "network": places / "digits" / "model.keras"}
    monkeypatch.setattr(Context, "forget_parts", lambda self: None)
    content = json.loads(command.execute("ood", protocol, **options).read_text())
    of = Results(content, "ood-digits")
    assert content["settings"]["network"].startswith("digits, weights ")
    assert of(table="ood", metric="accuracy", system="no defense") > 0.9
    assert of(table="ood", metric="false-positive rate", system="energy") <= 0.1
    for name in ("energy", "knn"):
        near = of.one(table="ood", system=name, metric="AUROC", ood="near")
        assert (
            near.value == of(table="ood", system=name, metric="AUROC", ood="drawn letters") and near.get("sets") == "drawn letters"
        )
        for attack, metric, falls in (
            (ACCEPT, "AUROC", True),
            (ACCEPT, "rejection rate", True),
            (REJECT, "false-positive rate", False),
        ):
            rows = tables._attacked(of, name, attack, metric, **({} if attack == REJECT else {"ood": "near"}))
            values = [row.value for row in rows]
            assert [row.epsilon for row in rows] == [0, 0.05, 0.2] and values == sorted(values, reverse=falls), (
                name,
                attack,
                metric,
            )
            assert not rows[0].flags and rows[1].knowledge == "adaptive"
    assert of(table="ood.attacked", system="energy", attack=ACCEPT, metric="AUROC", ood="near", epsilon=0.2) < 0.6
    chooses = of.all(table="ood.choice")
    assert [row.system for row in chooses] == ["energy", "knn"] and {row.get("sets") for row in chooses} == {"textures"}
    assert {row.n for row in chooses} == {120 + 300}
    for table in tables.TABLES["ood"].values():
        assert table(of).count("\n") >= 3
    assert "| MSP |" not in tables.openood(of) and "| EBO | 0.8758 |" in tables.openood(of)

    monkeypatch.setattr(measure, "attacked", lambda *_: pytest.fail("a finished part was measured again"))
    again = json.loads(command.execute("ood", protocol, **options).read_text())
    assert again["rows"] == content["rows"]


@pytest.mark.slow
def test_dustbin_is_trained_on_the_last_hidden_layer_and_its_samples_on_others(places):
    setup = dataclasses.replace(SETUPS["digits"].quick(), fitted=60)
    study = Study(Context("ood", "digits", True, None, None, places, places / "parts"), setup, places / "digits" / "model.keras")
    before = study.head.get_weights()
    grafted = with_dustbin(study)
    scores = [np.asarray(grafted(study.features(x))) for x in (study.exposed(), study.fitted.x)]
    assert scores[0].shape == (60, 11) and (scores[0].argmax(1) == 10).mean() > (scores[1].argmax(1) == 10).mean() + 0.3
    for old, new in zip(before, study.head.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_options_are_checked(places):
    options = {"dataset": "digits", "quick": False, "samples": None, "data_dir": None, "output": None, "only": None, "steps": None}
    with pytest.raises(ValueError, match="A result is of the data set's own network"):
        command.execute("ood", protocol, **options | {"network": places / "digits" / "model.keras"})
    options |= {"output": places, "network": places / "digits" / "model.keras"}
    with pytest.raises(ValueError, match="`--only` must be one of ash, .*Received 'vimm'. Did you mean `vim`?"):
        command.execute("ood", protocol, **options | {"only": "vimm"})
    with pytest.raises(ValueError, match="The detector branch watches layer 'conv_2'. The network 'digits_cnn' has none"):
        protocol.SETUPS["digits"] = dataclasses.replace(protocol.SETUPS["digits"], branch=("conv_2", "cifar"))
        command.execute("ood", protocol, **options | {"only": "detector branch"})


def test_a_study_is_pickled_without_its_images(places):
    import pickle

    study = Study(
        Context("ood", "digits", True, None, None, places, places), SETUPS["digits"].quick(), places / "digits" / "model.keras"
    )
    assert len(study.fitted.x) == 300 and len(study.held_out.x) == 120
    assert not {image.tobytes() for image in study.fitted.x} & {image.tobytes() for image in study.held_out.x}
    assert len(pickle.dumps(study)) < 5_000


def test_every_score_and_paper_stands_on_the_board():
    known = systems.every()
    assert set(td.layers.scores.POST_HOC) < set(known)
    assert {system.name for system in known.values() if system.kind == systems.PAPER} == {
        *("DNR", "K-density", "SafetyNet", "detector branch", "dustbin")
    }
    for name, system in known.items():
        defense = system.make(td, SETUPS["digits"])
        assert isinstance(defense, td.defenses.Defense), name


def test_sets_are_of_the_networks_shape_and_nothing_that_trains_is_tested():
    for setup in SETUPS.values():
        assert setup.exposed not in setup.sets and len(set(setup.sets)) == len(setup.sets)
    for name in ("textures", "noise"):
        train, test = (sets.load(name, (16, 16, 3), 4, split) for split in ("train", "test"))
        assert train.shape == test.shape == (4, 16, 16, 3) and train.dtype == "float32" and not np.array_equal(train, test)
    letters = sets.load("drawn letters", (8, 8, 1), 5)
    assert letters.shape == (5, 8, 8, 1) and 0 <= letters.min() < letters.max() <= 1
    assert sets.load("drawn letters", (12, 12, 3), 2).shape == (2, 12, 12, 3)
    with pytest.raises(ValueError, match="An OOD set is one of CIFAR-100, .*Received 'SVHN'"):
        sets.load("SVHN", (8, 8, 1), 1)


def test_classes_that_overlap_are_left_out(real_data):
    images = real_data("cifar10", "test", dtype="uint8")
    left = sets._loaded("cifar10", "test", 400, sets.OVERLAP_CIFAR10)
    out = {images.x[row].tobytes() for row in np.flatnonzero(np.isin(images.y, [5, 9]))}
    assert left.shape == (400, 32, 32, 3) and not out & {image.tobytes() for image in left}
    assert set(sets.OVERLAP) < set(real_data("cifar100", "test", limit=1).classes)
    with pytest.raises(ValueError, match=r"must have the classes .*Missing: \['lion'\]"):
        sets._loaded("cifar10", "test", 4, ("lion",))


def test_page_names_the_command_until_it_has_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    text = pages.rendered("<!-- begin ood-cifar10: worth -->\n<!-- end -->")
    assert "Not measured: `python -m evaluation ood --dataset cifar10` does, in about" in text
    assert "Not measured yet." in pages.rendered("<!-- begin board-cifar10: board -->\n<!-- end -->")
    assert {name for name in tables.COSTS["ood"]} | {"digits"} == set(protocol.DATASETS)
