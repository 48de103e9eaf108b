"""The study of photo classifiers: heads against known answers, images that no two parts share, and how one is chosen."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

import tfdefense as td
from evaluation.benchmarks.photos import candidates, heads, material
from evaluation.benchmarks.photos.candidates import Candidate

RNG = np.random.default_rng(0)
CENTRES = 4 * np.eye(6, 12)
OWN = [5, 1, 3]  # columns of ImageNet's logits that are the classes


def samples(count, centre):
    return (RNG.normal(size=(count, 12)) + centre).astype("float32")


Y = np.arange(90) % 3
X = np.concatenate([samples(1, CENTRES[label]) for label in Y])
OTHERS = samples(60, CENTRES[4])
THOUSAND = (RNG.normal(size=(12, 8)).astype("float32"), RNG.normal(size=8).astype("float32"))


def test_with_one_hot_targets_it_is_the_regression_of_scikit_learn():
    reference = LogisticRegression(C=0.1, max_iter=500, tol=1e-6).fit(X, Y)
    kernel, bias = heads.soft_regression(X, np.zeros((90, 3)), np.eye(3)[Y], np.ones(90), 0.1)
    logits = X @ kernel + bias
    expected = reference.decision_function(X)
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected - expected.mean(1, keepdims=True), atol=2e-3)


def test_what_is_shown_gets_the_same_of_each_class_or_the_dustbin():
    def logits(kind, x):
        head = heads.fitted(kind, X, Y, OTHERS, THOUSAND, OWN, 0.1)
        return x @ head.kernel + head.bias

    def from_equal_shares(kind):
        """Cross-entropy to equal shares, beyond the least that it can be."""
        scores = logits(kind, OTHERS)
        return (logsumexp(scores, axis=1) - scores.mean(1)).mean() - np.log(3)

    assert 0 <= from_equal_shares("exposure") < 0.7 * from_equal_shares("plain")
    assert (logits("dustbin", OTHERS).argmax(1) == 3).mean() > 0.9 and (logits("dustbin", X).argmax(1) == Y).mean() > 0.9


def test_a_head_under_a_hard_penalty_is_what_the_body_has_learnt():
    head = heads.fitted("ImageNet dustbin", X, Y, None, THOUSAND, OWN, 1e-9)
    np.testing.assert_allclose(head.kernel[:, :3], THOUSAND[0][:, OWN], atol=1e-4)
    assert np.abs(head.kernel[:, 3]).max() < 1e-4 and head.has_dustbin


def test_the_model_of_a_head_computes_what_the_head_says():
    import keras

    features = keras.Input((12,), name="features")
    for kind in heads.KINDS:
        head = heads.fitted(kind, X, Y, OTHERS, THOUSAND, OWN, 0.1)
        expected = X @ head.kernel + head.bias
        if kind == "ImageNet dustbin":
            expected[:, 3] += logsumexp(X @ THOUSAND[0] + THOUSAND[1], axis=1)
        model = heads.on(keras.Model(features, features), features, head)
        np.testing.assert_allclose(model(X), expected, atol=1e-4)
    with pytest.raises(ValueError, match="`kind` must be one of 'plain'"):
        heads.fitted("bin", X, Y)


@pytest.fixture(scope="module")
def found():
    names = (Candidate("plain", (), ("energy",)), Candidate("dustbin", ("textures",), ("dustbin",), 0.01))
    names += (Candidate("ImageNet dustbin", ("CIFAR-10",), ("dustbin", "energy")),)

    def part(count):
        y = np.arange(count) % 3
        ten = np.concatenate([samples(1, CENTRES[label]) for label in y])
        return {"ten": ten, "small": ten, "y": y} | {name: samples(20, CENTRES[4]) for name in material.TESTED}

    features = {"fit": (X, Y), "choose": part(60), "report": part(30), "shown": {"textures": OTHERS, "CIFAR-10": OTHERS}}
    calibrate = part(150)
    features["calibrate"] = (calibrate["ten"], calibrate["y"])
    return names, candidates.study(features, THOUSAND, OWN, names)["shares"]


def test_a_dustbin_that_was_shown_them_rejects_them(found):
    names, shares = found
    plain, dustbin = (shares[one.name]["report"] for one in names[:2])
    # 20 of each; the plain head has nothing that tells them apart.
    assert all(plain[name] < 0.6 and dustbin[name] >= 0.8 for name in material.TESTED) and dustbin["rejected"] < 0.2
    assert dustbin["rejected"] == dustbin["small rejected"] and dustbin["right"] > 0.7


def test_it_is_chosen_by_the_part_that_chooses_and_never_by_what_was_shown_the_kind_that_is_tested(found):
    names, shares = found
    fell_short = {part: dict.fromkeys(shares[names[0].name][part], 0.0) for part in ("choose", "report")}
    perfect = dict.fromkeys(candidates.LEAST, 1.0) | {"rejected": 0.0}
    made = {one.name: dict(fell_short) for one in names}
    made[names[0].name]["report"] = perfect
    made[names[1].name]["choose"] = perfect | {"noise": 0.5}
    made[names[2].name]["choose"] = perfect
    assert names[2].seen("CIFAR-100") and not names[1].seen("CIFAR-100")
    assert candidates.best(made, names) is names[1]
    assert candidates.margin(perfect) == pytest.approx(0.05) and candidates.margin(perfect | {"rejected": 0.09}) < 0


def test_pieces_change_places_and_small_photos_show_the_same():
    x = RNG.random((2, 96, 96, 3)).astype("float32")
    moved = material.shuffled(x)
    np.testing.assert_array_equal(np.sort(moved, axis=None), np.sort(x, axis=None))
    assert not np.array_equal(moved, x) and material.made_small(x).shape == x.shape
    assert material.made_small(x).std() < 0.5 * x.std()


@pytest.mark.skipif(not td.data.available("cifar100"), reason="the set cifar100 is not in $TFDEFENSE_DATA")
def test_the_classes_left_out_are_classes():
    images = td.data.load("cifar100", "test", limit=100)
    assert set(material.OVERLAP) <= set(images.classes) and len(material.without(images, material.OVERLAP)) == 86
    with pytest.raises(ValueError, match="classes lion fish"):
        material.without(images, ("lion fish",))


@pytest.fixture(scope="module")
def results(found):
    """Rows as the protocol writes them, of made up shares; the second candidate is chosen."""
    from evaluation.runner import rows
    from evaluation.runner.rows import Results

    names, made = found[0], []
    for one in names:
        about = {"system": " or ".join(one.scores), "base": one.head, "shown": ", ".join(one.shown) or "nothing", "n": 100}
        about["strength"] = one.strength
        about |= {"interval": (0.25, 0.75), "part": "report"}
        made += [rows.make("photos", "accuracy", 0.95 if one is names[1] else 0.5, **about)]
        made += [rows.make("photos", "false-positive rate", 0.03, **about)]
        made += [rows.make("photos", "false-positive rate", 0.3, perturbation="resized to 32 pixels", **about)]
        for name in material.TESTED:
            seen = {"seen in training": "its kind" if one.seen(name) else "no"}
            made.append(rows.make("photos", "rejection rate", 0.9, ood=name, **about, **seen))
    return Results({"settings": {"chosen": names[1].name, "strength": 0.1}, "rows": [row.plain() for row in made]})


def test_the_table_marks_what_is_chosen_and_what_was_shown_its_kind(results):
    from evaluation.benchmarks.photos.tables import TABLES

    _, _, plain, chosen, tiny = TABLES["photos"]["report"](results).splitlines()
    assert (
        chosen.startswith("| **dustbin** | **textures** | **0.01** | **dustbin** | **95.0% [25, 75]** |")
        and "**" not in plain + tiny
    )
    assert tiny.count("(90.0% [25, 75])") == 1 and "(" not in plain + chosen
    assert plain.count("3.0%") == 1 and plain.endswith("| 30.0% [25, 75] |")


def test_the_goals_are_those_of_the_chosen_one(results):
    from evaluation.benchmarks.photos.goals import GOALS

    goals = GOALS["photos", "imagenette_small"]
    met = {goal.what: goal.met(goal.measured(results)) for goal in goals if goal.least or goal.most}
    assert list(met.values()) == [True, True, False, False, False, True]
    assert [goal.measured(results) for goal in goals] == [0.95, 0.03, 0.9, 0.9, 0.9, 0.9, 0.3]
