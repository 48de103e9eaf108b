"""A comparison chooses on one half and reports the other; what it says is what `td.evaluate` says of the winner."""

import dataclasses
import json

import numpy as np
import pytest

import tfdefense as td
from tfdefense.comparison.candidates import named, title
from tfdefense.comparison.measure import robust
from tfdefense.comparison.splits import thirds


@pytest.fixture(scope="module")
def letters():
    return td.data.load("letters8", limit=200).x


@pytest.fixture(scope="module")
def found(classifier, held_out, letters, tmp_path_factory):
    picture = tmp_path_factory.mktemp("picture") / "comparison.png"
    noise = np.random.default_rng(0).random((50, 8, 8, 1)).astype("float32")
    candidates = {"mine": "confidence", "energy": "energy", "both": td.AnyOf(td.ThresholdDefense(), td.ThresholdDefense("energy"))}
    candidates["density"] = td.DensityDefense()
    options = {"ood": {"letters": letters, "noise": noise}, "attack": td.attacks.FGSM(0.1), "attacked": 8, "picture": picture}
    result = td.compare(classifier, candidates, (held_out.x, held_out.y), **options)
    assert picture.stat().st_size > 10_000
    return result


def split(classifier, held_out, ood=None, **options):
    about = {"ood": ood, "train": None, "bounds": (0, 1), "class_names": None, "seed": 0} | options
    return thirds(classifier, (held_out.x, held_out.y), **about)


def test_what_is_reported_of_the_winner_is_what_evaluate_says(found, classifier, held_out, letters):
    *_, reported = split(classifier, held_out, {"letters": letters})
    row, outcomes = found[found.chosen], td.evaluate(found.winner, reported.x, reported.y)
    assert not td.contract.unready(found.winner)
    assert (row.right, row.rejected) == pytest.approx((outcomes.accuracy, outcomes.rejection))
    assert row.risk == pytest.approx(outcomes.risk) and row.aurc == pytest.approx(td.metrics.aurc(outcomes), abs=1e-4)
    zeros = np.zeros(len(reported.ood["letters"]), int)
    assert row.ood["letters"] == pytest.approx(td.evaluate(found.winner, reported.ood["letters"], zeros).rejection)
    assert row.samples == {"clean": 132, "letters": 100, "noise": 25, "attack": 8}
    assert row.interval("rejected") == td.metrics.share_interval(row.rejected, 132)
    assert row.interval("letters") == td.metrics.share_interval(row.ood["letters"], 100)
    assert 0 < row.mean_benign < 1 and len(row.benign) == 4 and 0 <= row.robust_accuracy <= 1


def test_rows_are_the_undefended_model_and_every_candidate(found, classifier, held_out):
    assert [row.name for row in found.rows] == ["no defense", "mine", "energy", "both", "density"]
    plain = found["no defense"]
    *_, reported = split(classifier, held_out)
    assert plain.right == td.evaluate(classifier, reported.x, reported.y).accuracy and plain.rejected == 0
    assert plain.setup_seconds == 0 and plain.added_kib == 0 and plain.score is None
    for row in found.rows[1:]:
        assert row.rejected < 0.15 and row.setup_seconds > 0 and row.predict_ratio > 0 and 0 <= row.score <= 1
    assert found["density"].added_kib > 10 * found["energy"].added_kib > 0
    assert max(found.rows[1:], key=lambda row: row.score).name == found.chosen
    with pytest.raises(KeyError, match="Compared were no defense, mine"):
        found["other"]


def test_no_sample_is_in_two_parts(classifier, held_out, letters):
    train = (held_out.x[:20], held_out.y[:20])
    for seed in (0, 1):
        chosen, calibrated, reported = split(classifier, held_out, letters, seed=seed)
        fitted, choosing = chosen.fit_and_choose(True, seed)
        parts = [{one.tobytes() for one in part.x} for part in (fitted, choosing, calibrated, reported)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len({one.tobytes() for one in held_out.x})
        assert [len(part.x) for part in (chosen, calibrated, reported)] == [132, 133, 132] and not calibrated.ood
        sides = [{one.tobytes() for one in part.ood["ood"]} for part in (choosing, reported)]
        assert not sides[0] & sides[1] and len(chosen.ood["ood"]) == 100
        assert chosen.fit_and_choose(False, seed)[1] is chosen, "nothing to adapt: all of it chooses"
    chosen, *_ = split(classifier, held_out, train=train)
    assert len(chosen.fit_and_choose(True, 0)[0].x) == 20 and chosen.fit_and_choose(True, 0)[1] is chosen


def threshold(model):
    return next(float(layer.value.numpy()) for layer in model.layers if isinstance(layer, td.layers.Threshold))


def test_what_calibrates_or_is_reported_changes_nothing_of_what_is_chosen(classifier, held_out, letters):
    """Other samples in the place of one part: the same scores, and the threshold follows the part that calibrates alone."""
    found = {}
    for name, part in zip((None, "calibrated", "reported"), (None, *split(classifier, held_out)[1:]), strict=True):
        theirs = set() if part is None else {one.tobytes() for one in part.x}
        x = np.stack([0.5 * one if one.tobytes() in theirs else one for one in held_out.x]).astype("float32")
        candidates = ["energy", "confidence", "non-me"]
        found[name] = td.compare(classifier, candidates, (x, held_out.y), ood=letters, attack=None)
    scores = {name: [row.score for row in each.rows] for name, each in found.items()}
    assert scores[None] == scores["calibrated"] == scores["reported"]
    assert threshold(found[None].winner) == threshold(found["reported"].winner) != threshold(found["calibrated"].winner)
    right = {name: each[each.chosen].right for name, each in found.items()}
    assert right[None] != right["reported"], "what is reported does change"
    first = found[None]
    clone = td.ThresholdDefense(first.chosen).attach(classifier)
    td.calibrate(clone, split(classifier, held_out)[1].x)
    assert threshold(clone) == pytest.approx(threshold(first.winner))
    assert first.rows[0].robust_accuracy is None and "robust accuracy" not in first.summary()


def test_the_same_seed_gives_the_same_rows_and_another_others(found, classifier, held_out, letters):
    def run(seed):
        rows = td.compare(classifier, ["energy"], held_out, by="risk", attack=None, seed=seed).rows
        return [dataclasses.replace(row, setup_seconds=0, predict_ratio=0) for row in rows]

    assert run(0) == run(0) != run(1)


def test_the_winner_by_attack_is_the_most_robust(classifier, held_out):
    attack = td.attacks.PGD(0.15, steps=5)
    result = td.compare(classifier, ["confidence", "energy"], held_out, attack=attack, by="attack", attacked=20)
    scores = {row.name: row.score for row in result.rows[1:]}
    assert scores[result.chosen] == max(scores.values()) and result.settings["by"] == "robust accuracy"
    assert result.settings["epsilon"] == 0.15


def test_a_suite_by_name_is_the_attack_of_all():
    attacking = robust("quick-1", "linf", None, 5, 3, (8, 8, 1), 255)
    assert attacking.attack.suite.name == "quick-1" and attacking.attack.options == {"seed": 3, "steps": 5}
    assert attacking.attack.epsilon == attacking.size == pytest.approx(0.05 * 255)
    for arguments, text in (
        (("quick-1", "linf", None, None, 0, (3,), None), "Pass `epsilon`"),
        ((5, "linf", 1, None, 0, (3,), 1), "a suite"),
    ):
        with pytest.raises(ValueError, match=text):
            robust(*arguments)


def test_it_prints_and_writes(found, tmp_path, held_out):
    text = found.summary()
    assert f"{found.chosen} *" in text and "letters rejected" in text and "robust accuracy" in text
    assert "on 66 other samples than the 133 that calibrate and the 132 of this table" in text
    found.write_json(tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert content["chosen"] == found.chosen and content["rows"][1]["intervals"]["letters"]
    found.winner.save(tmp_path / "winner.keras")
    expected = np.asarray(found.winner(held_out.x)["label"])
    np.testing.assert_array_equal(td.load(tmp_path / "winner.keras")(held_out.x)["label"], expected)
    left = dataclasses.replace(found, left_out={"vim": "it needs a Dense layer."})
    assert "left out: vim: it needs a Dense layer." in left.summary()


def test_names_of_candidates():
    one, other = td.ThresholdDefense("energy"), td.PerClass(td.ThresholdDefense())
    assert list(named(["energy", one, td.AnyOf(one, other)])) == ["energy", "energy 2", "any of energy, PerClass confidence"]
    assert list(named({"mine": "energy"})) == ["mine"] and list(named("energy")) == ["energy"]
    assert set(td.layers.scores.SCORES) <= set(named())
    assert title(td.DensityDefense()) == "DensityDefense"


@pytest.mark.parametrize(
    "candidate, text",
    [
        ("enrgy", "Did you mean `energy`"),
        (3, "Expected a name such as 'energy' or a defense"),
        (td.DustbinDefense(), "needs training: a dustbin"),
        (td.AnyOf(td.DustbinDefense(), td.ThresholdDefense()), "needs training: a dustbin"),
        (td.SafetyNet(["features"]), "needs adversarial samples: its layer"),
        (td.AdversaryDetector("conv", width=4), "needs training: its weight"),
        (td.ThresholdDefense(threshold=0.5), "a threshold of its own"),
        (td.DeepNeuralRejection(["nowhere"]), "Candidate 'DeepNeuralRejection': "),
    ],
)
def test_what_can_not_be_compared_is_refused_with_a_sentence(classifier, held_out, candidate, text):
    with pytest.raises(ValueError, match=text):
        td.compare(classifier, [candidate], held_out, attack=None)


def test_other_mistakes_are_told_before_the_work(classifier, held_out, letters):
    for options, text in (
        ({"by": "ood"}, "Pass `ood="),
        ({"by": "best"}, "must be one of 'ood', 'risk', 'attack'"),
        ({"by": "attack"}, 'Pass attack="quick-1"'),
        ({"defenses": []}, "at least one candidate"),
        ({"defenses": ["energy", "energy"]}, "once"),
        ({"max_rejected": 2}, "must be a share"),
        ({"ood": letters[:1]}, "two halves"),
        ({"ood": 5 * letters}, r"\(0, 1\)|bounds|between"),
        ({"held_out": (held_out.x[:5], held_out.y[:5])}, "three parts"),
        ({"held_out": (held_out.x[:20], held_out.y[:20])}, "too few to promise"),
        ({"norm": "l7"}, "l7"),
    ):
        with pytest.raises(ValueError, match=text):
            td.compare(classifier, **{"defenses": ["energy"], "held_out": held_out, "attack": None} | options)


def test_a_defended_model_is_compared_without_its_defense(defended, held_out):
    result = td.compare(defended, ["energy"], held_out, attack=None)
    assert result.chosen == "energy" and sum(isinstance(layer, td.layers.Threshold) for layer in result.winner.layers) == 1
