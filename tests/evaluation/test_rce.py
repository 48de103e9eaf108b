import json

import keras
import numpy as np
import pytest

from evaluation.papers.rce import measure as rce_measured
from evaluation.papers.rce import numbers as rce_paper
from evaluation.papers.rce import protocol as rce
from evaluation.runner import results
from evaluation.runner.context import Context
from tfdefense.attacks import FGSM, CarliniWagner


@pytest.fixture(scope="module")
def path(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.keras"
    bare = keras.models.clone_model(classifier)
    bare.set_weights(classifier.get_weights())
    bare.save(path)
    (path.parent / "config.json").write_text('{"test_accuracy": 0.75, "seconds": 12.3}')
    return path


@pytest.fixture(scope="module")
def network(path, digits, held_out, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    return rce_measured.Network(
        Context("rce", "digits", True, None, None, place, place, commit="abc"), "ce", path, digits, held_out
    )


def test_paper_numbers_are_where_they_belong():
    assert rce_paper.auc("mnist", "C&W-hc", "rce", "density") == 0.996
    assert rce_paper.auc("cifar10", "BIM", "ce", "confidence") == 0.0
    assert rce_paper.auc("digits", "BIM", "ce", "density") is None
    assert rce_paper.of(rce_paper.WHITE_BOX, "mnist", "rce") == (0.77, 31.59)
    assert rce_paper.of(rce_paper.TRANSFER, "mnist", ("ce", "ce")) is None


def test_auc_is_that_of_scikit_learn_over_the_pairs(network, classifier, held_out):
    from sklearn.metrics import roc_auc_score

    x, y = held_out.x[:80], held_out.y[:80]
    x_adv = FGSM(0.25)(classifier, x, y).x_adv
    found = rce_measured.aucs(network, x, x_adv, y)
    clean, changed = (keras.ops.softmax(classifier(v)).numpy() for v in (x, x_adv))
    pairs = (clean.argmax(1) == y) & (changed.argmax(1) != y)
    doubt = -np.concatenate([clean.max(1)[pairs], changed.max(1)[pairs]])
    assert found["pairs"] == pairs.sum() > 10
    assert found["confidence"] == pytest.approx(roc_auc_score(np.repeat([0, 1], pairs.sum()), doubt), abs=1e-3)
    assert 0.5 < found["density"] <= 1


def test_detectors_are_set_as_the_paper_sets_them(network, digits, held_out):
    rejected = np.mean(network.detectors["density"](held_out.x)["label"].numpy() == -1)
    assert rejected == pytest.approx(0.05, abs=0.005)
    assert np.mean(network.white_box(digits.x)["suspicion"].numpy() > 0) == pytest.approx(0.5, abs=0.01)


def test_own_kappa_is_over_the_samples_that_are_right(classifier, held_out):
    scores = np.sort(classifier(held_out.x).numpy(), -1)
    right = classifier(held_out.x).numpy().argmax(-1) == held_out.y
    want = np.median((scores[:, -1] - scores[:, -2])[right])
    assert rce_measured.own_kappa(classifier, held_out.x, held_out.y) == pytest.approx(1.3 * want, abs=1e-3)


def test_samples_that_were_wrong_are_no_success(network, classifier, held_out, monkeypatch):
    right = classifier(held_out.x).numpy().argmax(-1) == held_out.y
    rows = np.concatenate([np.flatnonzero(~right)[:2], np.flatnonzero(right)[:4]])
    x, y = held_out.x[rows], held_out.y[rows]
    found = rce_measured.oblivious(network, CarliniWagner(steps=60, binary_search_steps=3), x, y)
    assert found["success"] == 1.0 and found["rms"] > 1
    # A detector that lets everything pass: the wrong samples would all succeed as they are.
    monkeypatch.setattr(network, "white_box", network.detectors["confidence"])
    white = rce_measured.white_box(network, "sample", CarliniWagner(steps=5, binary_search_steps=1), x, y)
    assert white["right"] == [False] * 2 + [True] * 4 and not any(white["success"][:2])


def test_better_takes_success_and_then_the_shorter_way():
    first = {"success": [True, False, True, False], "rms": [3.0, 1.0, 1.0, 1.0], "x_adv": ["a"] * 4}
    second = {"success": [True, True, True, False], "rms": [2.0, 9.0, 5.0, 0.5], "x_adv": ["b"] * 4}
    assert rce_measured.better(first, second)["x_adv"] == ["b", "b", "a", "b"], "of two failures the second: its start misleads"


def test_distortions_are_compared_over_what_both_lose():
    found = {
        "ce": {"success": [True, True, False], "rms": [2.0, 4.0, 9.0]},
        "rce": {"success": [False, True, True], "rms": [1.0, 6.0, 1.0]},
    }
    assert rce_measured.both_lose(found) == {"ce": 4.0, "rce": 6.0, "samples": 1, "ratio": 1.5}
    found["ce"]["success"] = [True, False, False]
    assert rce_measured.both_lose(found) == {"ce": None, "rce": None, "samples": 0, "ratio": None}


@pytest.mark.slow
def test_whole_protocol_gives_every_row(path, tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(rce, "_cw", lambda context, **options: CarliniWagner(steps=8, binary_search_steps=2, **options))
    monkeypatch.setattr(rce, "SIZES", {"digits": (0.0, 0.2)})
    monkeypatch.setattr(rce, "THETAS", {"digits": (0.0, 1.0)})
    monkeypatch.setattr(rce, "ADAPTIVE", {"digits": {"l2": (1.0,)}})
    monkeypatch.setattr(rce, "TRIES", {"digits": (("rce", "twice the epochs", {"epochs": 12}),)})
    asked = []

    def context(**process):
        made = Context("rce", "digits", True, 30, None, tmp_path, tmp_path / "parts", **process)
        made.network = lambda recipe, **options: asked.append((recipe, options)) or path
        return made

    first = context()
    rce.run(first, cw_samples=6)
    expected = [(f"digits_resnet_{loss}", depth) for depth in (8, 14) for loss in ("ce", "rce")]
    expected.insert(2, ("digits_resnet_rce", 8))
    assert [(recipe, options["depth"]) for recipe, options in asked if "optimizer" not in options] == expected
    compared = [row for row in first.rows if row["row"] == "R1"]
    assert len(compared) == 8 and {row["ours"] for row in compared} == {0.25}
    assert {row["row"] for row in first.rows} | {s["row"] for s in first.series} == {
        "R1",
        "R2",
        "R3",
        "R4",
        "R5",
        "R6",
        "R7",
        "R8",
        "R9",
    }
    assert len([row for row in first.rows if row["row"] == "R5"]) == 2 * 7 * 3 + 6
    assert {row["ours"] for row in first.rows if "twice the epochs" in row["what"] and row["row"] == "R8"} == {0.25}
    assert first.settings["trained in"] == "CE 12 s, RCE 12 s"
    assert len({row["what"] for row in first.rows}) == len(first.rows), "two rows of one name could not be told apart"
    pictures = {file.stem for file in (tmp_path / "rce-digits").iterdir()}
    assert {"fgsm", "bim", "ilcm", "jsma", "adaptive-l2", "tsne-ce", "tsne-rce"} <= pictures
    content = json.loads(results.write(first, 1.0, tmp_path).read_text())
    assert all(row["ours"] is None or np.isfinite(row["ours"]) for row in content["rows"])

    monkeypatch.setattr(rce_measured, "oblivious", lambda *_: pytest.fail("a finished part was measured again"))
    monkeypatch.setattr(rce_measured, "white_box", lambda *_: pytest.fail("a finished part was measured again"))
    drawn()
    again = context(worker=1, workers=2)
    rce.run(again, cw_samples=6)
    # A second process begins with the other network, and finds each part that the first has measured.
    assert again.used == first.used and {row["what"] for row in again.rows} == {row["what"] for row in first.rows}
    again = context()
    rce.run(again, cw_samples=6)
    assert json.dumps(again.rows) == json.dumps(first.rows)
