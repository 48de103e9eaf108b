"""The plan, what is known of each sample, and two runs of one seed."""

import dataclasses
import json
import re

import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tfdefense.attacks.suites import Suite, standard
from tfdefense.reporting.evidence import Evidence
from tfdefense.reporting.plan import PLANS, plan_for


def test_every_plan_is_compared_at_a_size_that_it_has():
    for name, plan in PLANS.items():
        quick = plan_for(name, (28, 28, 1), quick=True)
        assert set(quick.compared) == set(plan.norms) and quick.samples < plan.samples
        for norm in plan.norms:
            assert quick.compared[norm] in quick.sizes(norm) and quick.sizes(norm)[-1] == plan.sizes(norm)[-1]


def test_sizes_that_are_asked_for_are_taken():
    plan = plan_for("mnist", (28, 28, 1), linf=(0.01, 0.02, 0.5), samples=7, steps=None)
    assert plan.linf == (0.01, 0.02, 0.5) and plan.compared["linf"] == 0.02 and plan.l2 == PLANS["mnist"].l2
    assert (plan.samples, plan.steps) == (7, PLANS["mnist"].steps)


def test_sizes_follow_the_range_of_the_pixels_and_the_number_of_them():
    plan = plan_for("mnist", (28, 28, 1)).scaled(255)
    assert plan.linf[0] == 255 * PLANS["mnist"].linf[0] and plan.compared["l2"] in plan.l2
    small, large = plan_for("own", (8, 8, 1)), plan_for("own", (64, 64, 3))
    assert large.l2[0] > 5 * small.l2[0] and large.linf == small.linf


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"linf": (0.2, 0.1)}, "increasing sizes"),
        ({"samples": 0}, "`samples`"),
        ({"colour": 1}, "Received: colour"),
        ({"compared": {"linf": 7, "l2": 1.5}}, "`compared` must name"),
    ],
)
def test_a_plan_that_makes_no_sense_is_told(asked, expected):
    with pytest.raises(ValueError, match=expected):
        plan_for("mnist", (28, 28, 1), **asked)


def test_an_example_counts_in_every_norm_at_its_own_distance():
    x = np.zeros((2, 4))
    evidence = Evidence(x, np.array([False, True]), ("linf", "l2"))
    evidence.add(np.full((2, 4), 0.1), np.array([True, True]), number=3)
    assert evidence.nearest["linf"].tolist() == pytest.approx([0.1, 0.0])
    assert evidence.nearest["l2"].tolist() == pytest.approx([0.2, 0.0])
    assert evidence.succeeded("l2", 0.19).tolist() == [False, True] and evidence.robust_accuracy("l2", 0.2) == 0.0
    # Farther ones, and what does not evade, change nothing.
    evidence.add(np.full((1, 4), 0.3), np.array([True]), rows=np.array([0]))
    evidence.add(np.full((1, 4), 0.01), np.array([False]), rows=np.array([0]))
    evidence.attempt("l2", 0.1, np.full((1, 4), 0.01), rows=np.array([0]))
    assert evidence.nearest["linf"][0] == pytest.approx(0.1) and evidence.finder["l2"].tolist() == [3, -1]
    assert evidence.worst("l2", 0.2)[0] == pytest.approx(0.1) and evidence.worst("l2", 0.1)[0] == pytest.approx(0.01)


def ring(x):
    """Rejects far from the middle; a function, so that nothing of it can be looked into."""
    lead = tf.reduce_mean(x, [1, 2, 3]) - 0.5
    scores = tf.stack([-lead, lead], -1)
    suspicion = tf.abs(lead) - 0.2
    label = tf.where(suspicion > 0, -1, tf.argmax(scores, -1, output_type=tf.int32))
    return {"scores": scores, "suspicion": suspicion, "label": label}


@pytest.fixture(scope="module")
def samples():
    rng = np.random.default_rng(0)
    middle = np.where(np.arange(40) % 2, 0.6, 0.4)[:, None, None, None]
    return np.clip(middle + rng.normal(0, 0.05, (40, 4, 4, 1)), 0, 1).astype("float32"), np.arange(40) % 2


SMALL = {"samples": 12, "steps": 3, "linf": (0.05, 0.2), "l2": (0.2, 2.0), "refine": (5, 1), "queries": 10, "max_rejected": 0.0}


@pytest.fixture(scope="module")
def found(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return td.report(ring, samples, folder, **SMALL), folder


def without_times(folder):
    page = re.sub(r'<section id="times">.*?</section>', "", (folder / "index.html").read_text(), flags=re.S)
    content = json.loads((folder / "report.json").read_text())
    del content["times"]
    return page, content


def test_two_runs_of_one_seed_give_the_same_page_but_for_times(found, samples, tmp_path):
    td.report(ring, samples, tmp_path, **SMALL)
    assert without_times(tmp_path) == without_times(found[1])
    times = json.loads((tmp_path / "report.json").read_text())["times"]
    assert times["total"] >= sum(job["seconds"] for job in times["jobs"]) > 0


def keras_ring():
    import keras

    inputs = keras.Input((4, 4, 1))
    lead = keras.ops.mean(inputs, axis=(1, 2, 3)) - 0.5
    suspicion = keras.ops.abs(lead) - 0.2
    label = keras.ops.where(suspicion > 0, -1, keras.ops.cast(lead > 0, "int32"))
    scores = keras.ops.stack([-lead, lead], axis=-1)
    return keras.Model(inputs, {"scores": scores, "suspicion": suspicion, "label": label})


def test_a_report_that_was_stopped_goes_on(samples, tmp_path, monkeypatch):
    model = keras_ring()
    first = td.report(model, samples, **SMALL, cache=tmp_path)

    def never(*arguments):
        raise AssertionError("attacked again")

    monkeypatch.setattr(td.attacks.base.Attack, "_attack", never)
    second = td.report(model, samples, **SMALL, cache=tmp_path)
    assert second.content["attacks"] == first.content["attacks"] and second.verdict == first.verdict


def test_ood_samples_are_in_the_bounds_of_the_model(samples):
    """Whatever lies outside a defended model rejects: no merit, and no reason to show it as one."""
    x, _ = samples
    bright = np.full((5, 4, 4, 1), 255, "uint8")
    options = SMALL | {"samples": 2, "linf": (0.05, 0.2), "l2": ()}
    for ood, expected in (
        ({"bright": bright}, r"`ood\['bright'\]` must lie in \(0, 1\). Received values in \[255, 255\]"),
        ({"flat": np.zeros((5, 16))}, "Expected samples of shape"),
        (bright, "`ood` must be a dict from a name to samples. Received: ndarray"),
    ):
        with pytest.raises(ValueError, match=expected):
            td.report(keras_ring(), samples, **options, ood=ood)
    white = td.data.Images(bright, np.zeros(5, int), (), "bright", "test", (0, 255))
    content = td.report(keras_ring(), samples, **options, ood={"bright": white, "middle": x[:5]}).content
    rejected = {row["what"]: row["rejected"] for row in content["ood"]}
    assert rejected["bright"] == 1.0 and rejected["middle"] == 0.0
    with pytest.raises(ValueError, match="`train` must be the name"):
        td.report(keras_ring(), samples, **options, train=x)


def test_training_data_may_be_a_pair(samples):
    # A substitute of few samples is trained for so many epochs that these take the time.
    many = tuple(np.tile(part, (25, *[1] * (part.ndim - 1))) for part in samples)
    options = SMALL | {"samples": 4, "linf": (0.05, 0.2), "l2": (), "substitute": (1, 1000)}
    names = {entry["name"] for entry in td.report(keras_ring(), samples, **options, train=many).content["attacks"]}
    assert standard.TRANSFERRED in names


def test_another_seed_takes_other_samples(found, samples):
    other = td.report(ring, samples, **SMALL | {"linf": (0.05, 0.2), "l2": (), "steps": 1, "queries": 1}, seed=5, thorough=True)
    assert other.content["about"]["thorough"] and not found[0].content["about"]["thorough"]
    assert other.content["map"]["groups"][0]["points"] != found[0].content["map"]["groups"][0]["points"]


def test_the_file_holds_all_of_the_page(found):
    from tfdefense.reporting.page import render

    report, folder = found
    assert render(json.loads((folder / "report.json").read_text())) == (folder / "index.html").read_text()
    assert report.verdict in repr(report)


def test_a_model_that_shows_nothing_is_judged_all_the_same(found):
    content = found[0].content
    assert content["about"]["rejects"] and content["map"]["layer"] == "the class scores"
    assert set(content["curves"]["linf"]) == {"adaptive"}
    knowledge = {entry["knowledge"] for entry in content["attacks"]}
    assert knowledge == {"adaptive", "black box"}
    # Suspicion is known: what is 0.2 away from the middle is rejected, and the way to the other class is 0.1.
    assert content["curves"]["linf"]["adaptive"]["robust_accuracy"][1] == 0.0


def test_undefended_curve_begins_at_what_the_undefended_model_has_right(samples, tmp_path):
    """Here the defense has scores of its own, which are wrong for every sample."""
    import keras

    inputs = keras.Input((4, 4, 1))
    lead = keras.ops.mean(inputs, axis=(1, 2, 3)) - 0.5
    base, scores = keras.ops.stack([-lead, lead], axis=-1), keras.ops.stack([lead, -lead], axis=-1)
    model = td.defend(inputs, scores, keras.ops.abs(lead) - 1.0, base=base)
    content = td.report(model, samples, tmp_path, **SMALL).content
    assert content["clean"]["wrong"] == 1 and content["curves"]["linf"]["undefended"]["start"] == 1
    assert "start" not in content["curves"]["linf"]["adaptive"]
    row = re.search(
        r"<tr><td>undefended</td><td>robust accuracy</td><td class=\"n\">(.*?)</td>", (tmp_path / "index.html").read_text()
    )
    assert row[1] == "100.0 %"


def test_what_an_attack_broke_later_no_longer_counts_as_rejected(samples):
    from tfdefense.reporting import protocol

    x, y = samples
    plan = dataclasses.replace(plan_for("own", (4, 4, 1), linf=(0.05, 0.45), l2=()), samples=12, clean=40)
    images = td.data.Images(x, y, ("low", "high"), "own", "test", (0.0, 1.0))
    run = protocol.Protocol(ring, images, plan, max_rejected=0.0, suite=Suite("none", ()))
    run._without_attack()
    # A search that ends in the corner where everything is rejected.
    run.evidence.attempt("linf", 0.45, np.ones_like(run.x))
    run._search("linf", 0.45, [])
    run._search("linf", 0.05, [])
    run.evidence.add(1 - run.x[:4], np.ones(4, bool), rows=np.arange(4))
    run._close_curves()
    curve = run.findings["curves"]["linf"]["adaptive"]
    assert curve["robust_accuracy"][0] == pytest.approx(8 / 12) and curve["rejected"][0] == pytest.approx(8 / 12)


def test_pixels_up_to_255_give_the_same_shares(found, samples):
    few = Suite("few", tuple(attacker for attacker in standard.STANDARD if attacker.name in ("PGD", standard.FIRST)))
    x, y = samples
    settings = SMALL | {"l2": (), "bounds": (0, 255), "suite": few}
    content = td.report(lambda x: ring(x / 255), (np.rint(255 * x).astype("uint8"), y), **settings).content
    assert content["about"]["plan"]["linf"] == [0.05 * 255, 0.2 * 255]
    assert (
        content["curves"]["linf"]["adaptive"]["robust_accuracy"]
        == found[0].content["curves"]["linf"]["adaptive"]["robust_accuracy"]
    )
    assert content["clean"]["right"] == found[0].content["clean"]["right"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (3, "`data` must be the name"),
        ((np.zeros((2, 4, 4, 1)), np.zeros(3)), "`data` must be the name"),
        ((np.full((2, 4, 4, 1), 7.0), np.zeros(2)), "must lie in"),
        ("mnits", "Did you mean `mnist`"),
    ],
)
def test_data_that_makes_no_sense_is_told(data, expected):
    with pytest.raises(ValueError, match=expected):
        td.report(ring, data, **SMALL)


def test_the_plan_is_a_frozen_record_of_the_run(found):
    about = found[0].content["about"]
    assert about["plan"]["samples"] == 12 and about["plan"]["clean"] == 40 and about["seed"] == 0
    assert {field.name for field in dataclasses.fields(PLANS["mnist"])} == set(about["plan"])
