import dataclasses
import json
import pickle

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.dustbin import figures, goals, measure, protocol, tables
from evaluation.papers.dustbin.settings import (
    BENIGN,
    BOTH,
    CONFIDENCE,
    MORE,
    NAIVE,
    NAIVE_BENIGN,
    NOISE,
    OUT,
    PLANS,
    QUIET,
    SOURCE,
    trainings,
)
from evaluation.papers.unmeasured import LATER
from evaluation.runner import results
from evaluation.runner.context import Adversarial, Context
from evaluation.runner.rows import Results
from tfdefense.attacks import FGSM, PGD, Evade

PLAN = dataclasses.replace(PLANS["digits"], features="features", seen=1300)


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "commit", lambda: "abc")
    return Context("dustbin", "digits", True, 30, None, tmp_path, tmp_path / "parts")


@pytest.fixture(scope="module")
def rejecting(dustbin):
    return td.DustbinDefense().attach(dustbin)


@pytest.fixture
def study(context, classifier, rejecting):
    """A study whose networks are there: attacks are crafted on the naive one."""
    made = {NAIVE: classifier, SOURCE: classifier, BOTH: rejecting}
    return measure.Study(context, PLAN, trainings(PLAN), number=20, few=4, white=24, made=made)


def found(context):
    return Results({"rows": [row.plain() for row in context.rows]})


def test_sets_are_the_papers_attacks_on_samples_that_are_right(study, classifier):
    study.plan, study.factor = dataclasses.replace(PLAN, kappa=0.5), 2.0
    x, y = study.right("test")
    assert (classifier(x).numpy().argmax(1) == y).all() and len(x) == 20
    sets = study.sets("test")
    assert list(sets) == ["FGS", "I-FGS", "T-FGS", "DeepFool", *measure.CARLINIS, "DeepFool, longer"]
    for name in ("FGS", "I-FGS", "T-FGS"):
        assert np.abs(sets[name].x_adv - x).max() == pytest.approx(0.2, abs=1e-5)
    # Least likely is further off than any other class: untargeted steps mislead more often.
    rates = measure.black_box(study, classifier, "test")
    assert rates["I-FGS"]["error rate"] >= rates["FGS"]["error rate"] > 0.5 and rates["DeepFool"]["error rate"] == 1
    # Two targets of four samples; what reaches kappa is beyond it.
    carlini = sets["Carlini-Wagner"]
    assert len(carlini.x) == 8 and 4 <= carlini.success.sum()
    scores = np.sort(classifier(carlini.x_adv[carlini.success]).numpy(), -1)
    assert (scores[:, -1] - scores[:, -2] > 0.49).all() and rates[measure.REACHED]["error rate"] == 1
    lengths = [np.linalg.norm((sets[name].x_adv - sets[name].x).reshape(8, -1), axis=1).mean() for name in measure.CARLINIS]
    assert lengths[0] > lengths[1], "at kappa 0 it goes no farther than the boundary"
    length = {name: rates[name]["about"]["median_l2"] for name in measure.DEEPFOOLS}
    assert length["DeepFool, longer"] == pytest.approx(2 * length["DeepFool"], rel=0.2)
    study.few = 1
    unseen = study.sets("unseen")
    assert not {*measure.CARLINIS} & {*unseen} and len(unseen["FGS"].x) == 10, "half as many, of C&W none"


def test_samples_that_do_not_reach_kappa_count_as_they_are(study, classifier):
    study.plan = dataclasses.replace(PLAN, kappa=1e6)
    carlini = study.sets("test")["Carlini-Wagner"]
    assert len(carlini.x) == 8 and not carlini.success.any()
    np.testing.assert_array_equal(carlini.x_adv, carlini.x)
    rates = measure.black_box(study, classifier, "test")
    assert rates["Carlini-Wagner"]["accuracy"] == 1 and rates["Carlini-Wagner"]["about"]["n"] == 8
    assert measure.REACHED not in rates, "there are none"
    errors = [rates[name]["error rate"] for name in ("FGS", "I-FGS", "T-FGS", "DeepFool", "Carlini-Wagner")]
    assert measure.average_error(rates, "DeepFool") == pytest.approx(np.mean(errors)), "kappa 0 is no part of it"


def test_a_network_that_is_very_sure_is_attacked_all_the_same(study, classifier):
    """Cross-entropy's gradient rounds to 0 for it, and every sample would seem safe."""
    x, y = study.right("test")
    sure = keras.Model(classifier.inputs, keras.layers.Rescaling(300.0)(classifier.outputs[0]))
    known = measure.attacks(PLAN, True)
    for name in ("FGS", "I-FGS"):
        assert known[name][0](sure, x, y).success.mean() >= known[name][0](classifier, x, y).success.mean() - 0.1 > 0.3, name


def test_factor_is_the_smallest_that_misleads_more_than_half(study, classifier):
    x, y = study.right("test")
    toward = x[np.array([np.flatnonzero(y != label)[0] for label in y])]
    samples = Adversarial(x, y, x + 0.25 * (toward - x), np.ones(20, bool))
    study.made["sets, unseen"] = {"DeepFool": samples}
    found = measure.factor_that_transfers(study)
    before = [factor for factor in measure.FACTORS if factor < found["factor"]]

    def error(factor):
        return measure.outcome(classifier, samples.lengthened(factor).x_adv, y)["error rate"]

    assert found["error"] == error(found["factor"])
    assert 1.25 < found["factor"] < 4 and found["error"] > 0.5 and all(error(factor) <= 0.5 for factor in before)


def test_average_takes_one_form_of_deepfool():
    errors = {name: {"error rate": rate} for name, rate in (("FGS", 0.5), ("DeepFool", 0.1), ("DeepFool, longer", 0.9))}
    assert measure.average_error(errors) == pytest.approx(0.7)
    assert measure.average_error(errors, "DeepFool") == pytest.approx(0.3)
    assert measure.worse_error(errors) == pytest.approx(0.7)


def test_what_is_measured_is_of_the_samples_that_it_names(study, rejecting, monkeypatch):
    asked, outcome = [], measure.outcome
    monkeypatch.setattr(measure, "outcome", lambda model, x, *rest, **about: asked.append(x) or outcome(model, x, *rest, **about))
    monkeypatch.setattr(study, "sets", lambda part: {})
    values, samples = measure.measured(study, BOTH), study.samples
    clean = td.evaluate(rejecting, samples.test.x, samples.test.y)
    assert (values["clean"]["accuracy"], values["clean"]["rejection rate"]) == (clean.accuracy, clean.rejection)
    assert values["ood"] == td.evaluate(rejecting, samples.ood.x, samples.ood.y).rejection > 0.8
    unchanged, *_, dim, _ = values["benign"]
    assert unchanged["about"] == {"perturbation": "", "epsilon": None, "n": 20}
    assert dim["about"]["perturbation"] == "dim" and len(values["benign"]) == len(PLAN.perturbations) + 1
    dark = td.evaluate(rejecting, samples.test.x[:20] * np.float32(0.7), samples.test.y[:20])
    assert dim["rejection rate"] == pytest.approx(dark.rejection, abs=0.01)
    # What decides has seen neither the test samples nor the OOD images, and only the noise of the goal.
    assert list(values["unseen"]) == ["benign", "attacks"] and len(values["unseen"]["benign"]) == 2
    np.testing.assert_array_equal(asked[-2], samples.unseen.x)
    assert np.abs(asked[-1] - samples.unseen.x).max() == pytest.approx(0.1, abs=1e-6)


def test_all_starts_take_what_the_sample_does_and_more(study, rejecting, classifier, monkeypatch):
    images, asked, call = study.samples.test.take(slice(24)), [], PGD.__call__

    def record(self, *arguments, **options):
        asked.append(self.starts)
        return call(self, *arguments, **options)

    monkeypatch.setattr(PGD, "__call__", record)
    both = measure.adaptive(study, BOTH, "PGD")
    expected = PGD(0.1, steps=20, objective=Evade(), starts="sample", early_stop=True)(rejecting, images.x, images.y).success
    assert asked[0] == ("sample",) and asked[1][0] == "base" and asked[1][1].model is classifier
    assert asked[1][2:] == ("interpolated", "random")
    assert all(np.array(both["0.2"][name])[np.array(both["0.1"][name])].all() for name in both["0.1"]), "0.1 is within 0.2"
    sample, everything = (np.array(both["0.1"][starts]) for starts in ("sample", "all"))
    np.testing.assert_array_equal(sample, expected)
    assert (everything >= sample).all() and 0 < everything.mean()
    study.plan = dataclasses.replace(PLAN, sizes=(0.0,))
    alone = measure.adaptive(study, NAIVE, "log-sum-exp")
    np.testing.assert_array_equal(alone["0"]["all"], classifier(images.x).numpy().argmax(1) != images.y)


def test_carlini_gives_share_and_distance(study):
    found = measure.adaptive(study, BOTH, measure.CARLINI)
    assert len(found["success"]) == 4 and np.mean(found["success"]) > 0.7 and 0.1 < np.median(found["l2"]) < 3
    assert all(0 < largest <= length for largest, length in zip(found["linf"], found["l2"], strict=True))


@pytest.mark.parametrize(("size", "more"), [(0.4, False), (0.02, True)])
def test_threshold_by_noise_rejects_some_of_it_whether_that_is_more_or_less_than_before(study, rejecting, held_out, size, more):
    from tfdefense.metrics import benign_perturbation

    x, y = held_out.x[:200], held_out.y[200:]
    study.samples.calibration, study.plan = held_out.take(slice(200)), dataclasses.replace(PLAN, perturbations=(("sign", size),))
    study.samples.unseen = study.samples.test = None  # They judge.
    adjusted = measure.rejecting(_network(rejecting), NOISE, study)
    noisy = benign_perturbation(held_out.x[200:], size, seed=5)
    before, after = (measure.outcome(model, noisy, y)["rejection rate"] for model in (rejecting, adjusted))
    assert 0.02 < after < 0.1 and (after > before if more else before > 0.15)
    np.testing.assert_allclose(adjusted(x)["scores"], rejecting(x)["scores"], atol=1e-5)


def test_worst_case_is_over_searches_all_starts_and_carlini_wagner(study, context, monkeypatch):
    study.plan = dataclasses.replace(PLAN, sizes=(0.1,))
    taken = {"PGD": {"sample": [True] + 5 * [False], "all": 2 * [True] + 4 * [False]}}
    taken |= {"log-sum-exp": {"sample": 6 * [False], "all": [*3 * [False], True, *2 * [False]]}}
    taken["selective PGD"] = taken["PGD"]
    nearest = {"success": [False, True, True, False, True], "l2": [1.0, 2.0, 4.0, 1.0, 3.0]}
    nearest["linf"] = [0.05, 0.3, 0.1, 0.05, 0.3]
    given = {search: {"0.1": by_starts} for search, by_starts in taken.items()} | {measure.CARLINI: nearest}
    monkeypatch.setattr(study, "parts", lambda name, function, cases: {case: given[case[1]] for case in cases})
    protocol.adaptive(study, [NAIVE, BOTH])
    of = found(context)
    for network in (NAIVE, BOTH):
        assert of(attack="worst case", **network.fields()) == pytest.approx(4 / 6), "the fifth only further off"
        assert of(attack="PGD", starts="sample", **network.fields()) == pytest.approx(1 / 6)
        assert of(metric="median distance", **network.fields()) == 3
        assert of(attack=measure.CARLINI, metric="error rate", **network.fields()) == 0.6
    assert len(of.all(attack="selective PGD")) == 2, "a network that rejects nothing has none"


def test_with_a_threshold_on_confidence_it_rejects_what_the_dustbin_does_and_what_it_is_not_sure_of(study, rejecting, held_out):
    study.samples.calibration = held_out.take(slice(200))
    joined = measure.rejecting(_network(rejecting), CONFIDENCE, study)
    alone, both = (np.array(model(held_out.x)["label"]) == -1 for model in (rejecting, joined))
    assert (both >= alone).all() and alone.mean() < both.mean() < 0.1


def _network(model):
    """With the dustbin's score, which is no class of the undefended classifier."""
    return keras.Model(model.inputs[0], next(layer for layer in model.layers if isinstance(layer, td.layers.Dustbin)).input)


def values(goal, clean, black_box, unseen=()):
    """What `measured` gives, of a network that is only these numbers."""
    rates = {"accuracy": clean, "rejection rate": goal, "error rate": black_box}
    benign = [rates | {"about": about} for about in ({"n": 30}, {"n": 30, "perturbation": "sign", "epsilon": 0.1})]
    attacks = {"FGS": rates | {"about": {"attack": "FGS"}}, "DeepFool": rates | {"about": {"attack": "DeepFool"}}}
    more = {"unseen": values(*unseen)} if unseen else {}
    return {"clean": benign[0], "benign": benign, "attacks": attacks, "ood": 0.99} | more


def test_change_is_chosen_on_unseen_samples_by_the_goal_and_then_by_the_error():
    unseen = {BOTH: [0.5, 0.99, 0.0], BENIGN: [0.05, 0.99, 0.3], MORE: [0.09, 0.99, 0.2], NAIVE: [0.0, 0.994, 1.0]}

    def chosen(*compared):
        # Of the test samples BOTH would be the best choice.
        found = {network: values(0.0, 0.99, network != BOTH, numbers) for network, numbers in unseen.items()}
        return measure.chosen(found, compared)

    assert chosen(BOTH, BENIGN, MORE) == MORE and chosen(BOTH) == BOTH
    unseen[MORE][1] = 0.98
    assert chosen(BOTH, BENIGN, MORE) == BENIGN, "what rejects clean samples is no remedy"
    unseen[BENIGN][0] = 0.3
    unseen[MORE][:2] = 0.2, 0.99
    assert chosen(BOTH, BENIGN, MORE) == MORE, "of those that reject too much of the noise the one that rejects least"


def test_change_is_reported_on_test_samples(study, context):
    study.number = 30
    protocol.improvement(study, BENIGN, {BENIGN: values(0.05, 0.9, 0.06, (0.04, 0.8, 0.02))})
    of = found(context)
    noise, average = {"perturbation": "sign", "epsilon": 0.1}, {"attack": "average"}
    for on, goal, clean, black_box in ((None, 0.05, 0.9, 0.06), (protocol.UNSEEN, 0.04, 0.8, 0.02)):
        assert of(metric="false-positive rate", on=on, **noise, **BENIGN.fields()) == goal
        assert of(metric="accuracy", on=on) == clean and of(metric="error rate", on=on, **average) == black_box
    assert of(attack="FGS") == 0.06 and of(ood="letters8") == 0.99


@pytest.mark.parametrize(("error", "again", "met"), [(0.06, 0.2, (1, 0, 1)), (0.11, 0.05, (0, 1, 1)), (0.06, 0.05, (1, 1, 1))])
def test_goal_is_met_by_what_test_samples_show(context, error, again, met):
    good, repeated = (0.05, 0.9, 0.01), BENIGN._replace(seed=1)
    errors = {NAIVE: 0.01, BENIGN: error, repeated: again, QUIET: 0.01}
    known = {network: values(0.05, 0.9, value, good) for network, value in errors.items()}
    choices = {"best": BENIGN, "best, another seed": repeated, "never saw noise": QUIET}
    protocol.goals(context, known, choices)
    assert tuple(found(context).values("choice", counted="goals met").values()) == met
    context.rows.clear()
    known[BENIGN]["unseen"] = values(0.05, 0.89, 0.01)
    protocol.goals(context, known, {"best": BENIGN})
    assert found(context)(choice="best") == 0, "too much of the clean accuracy is lost"


def test_share_of_the_dustbin_is_given_of_each_that_has_other_parts(context):
    known = {NAIVE: [], OUT: [{"set": "a"}], BOTH: [{"set": "a"}, {"interpolated": "b"}], BENIGN: [{"set": "a"}]}
    known[MORE] = [{"set": "a"}, {"interpolated": "b"}, {"interpolated": "c"}]
    configs = {
        network: {"dustbin": dustbin, "dustbin_samples": 100 * number, "train_samples": 1000}
        for number, (network, dustbin) in enumerate(known.items())
    }
    protocol.shares(context, configs)
    assert found(context).values("detector") == {OUT.detector: 0.1, BOTH.detector: 0.2, MORE.detector: 0.4}
    assert context.rows[-1].note == "set a, interpolated b, interpolated c"


def test_samples_of_three_kinds_share_nothing(context):
    samples = measure.Samples(context, PLAN)
    known = [{image.tobytes() for image in part.x} for part in (samples.test, samples.unseen, samples.calibration)]
    seen = {image.tobytes() for image in td.data.load("digits").x[: PLAN.seen]}
    assert len(samples.unseen) == len(samples.calibration) == 50
    assert not known[0] & known[1] and not known[1] & known[2] and not seen & (known[0] | known[1] | known[2])


def test_what_parts_share_can_be_sent_to_another_process(study):
    study.factor = 1.5
    sent = pickle.loads(pickle.dumps(study))
    assert not sent.made and (sent.plan, sent.trainings, sent.factor) == (study.plan, study.trainings, 1.5)
    np.testing.assert_array_equal(sent.samples.test.x, study.samples.test.x)


def kinds(of):
    """What a result has rows of, whatever the data set and the network."""
    about = ("table", "row", "metric", "attack", "norm", "knowledge", "starts")
    return {(*(row.get(name) for name in about), *sorted({*row.settings} - {"threshold"})) for row in of.rows}


@pytest.mark.long
def test_whole_protocol_gives_every_row(classifier, dustbin, context, tmp_path, monkeypatch, drawn):
    drawn()
    monkeypatch.setattr(protocol, "PLANS", {"digits": dataclasses.replace(PLAN, sizes=(0.1,), other="letters8")})
    monkeypatch.setattr(figures, "moons", lambda *_, **__: None)
    paths = {}
    for name, model in {"naive": classifier, "augmented": dustbin}.items():
        paths[name] = tmp_path / name / "model.keras"
        paths[name].parent.mkdir()
        bare = keras.models.clone_model(model)
        bare.set_weights(model.get_weights())
        bare.save(paths[name])
        parts = {"dustbin": []} if name == "naive" else {"dustbin": [{"set": "letters8"}], "dustbin_samples": 650}
        (paths[name].parent / "config.json").write_text(json.dumps({"train_samples": 1300} | parts))
    asked = []

    def network(recipe, **settings):
        asked.append((recipe, settings))
        return paths["naive" if recipe == "digits" else "augmented"]

    made, model = {}, measure.Study._model

    def shared(study, network):
        """Networks that are one file here: attacks are compiled for one alone."""
        key = study.path(network), network.threshold
        if key not in made:
            made[key] = model(study, network)
        return made[key]

    monkeypatch.setattr(measure.Study, "_model", shared)
    monkeypatch.setattr(protocol, "SEARCHES", ("PGD", "selective PGD"))
    context.network = network
    protocol.run(context, white_samples=8, cw_samples=4)
    print(sorted(context.seconds.items(), key=lambda i: -i[1])[:40], sum(context.seconds.values()))
    naive = [settings for recipe, settings in asked if recipe == "digits"]
    assert {"seed": 1, "train_samples": 1200} in naive and {"benign": PLAN.trained_with, "train_samples": 1200} in naive
    assert [{"set": "letters8"}] in [settings.get("dustbin") for _, settings in asked], "the other set"
    assert {"benign": PLAN.trained_with, "train_samples": 1200} in [settings for recipe, settings in asked if recipe != "digits"]
    assert any(settings.get("seed") == 1 for recipe, settings in asked if recipe != "digits"), "the best is trained again"
    assert {row.row for row in context.rows} == {"O1", "O3", "O4", "O6", "O9"}
    path = results.write(context, 1.0, tmp_path)  # which also checks that no two rows are of the same thing
    of = Results.load(path)
    assert of(table=protocol.TABLE, ood="letters8", **OUT.fields()) > 0.8
    for row in of.all(table=protocol.TABLE, metric="error rate", seed=0, on=None):
        if row.attack != "average":
            about = {"table": protocol.TABLE, "attack": row.attack, **{name: row.get(name) for name in OUT.fields()}}
            rates = [row.value, *(of(metric=metric, **about) for metric in ("accuracy", "rejection rate"))]
            assert sum(rates) == pytest.approx(1)
    assert of(metric="accuracy", on=protocol.UNSEEN, **BOTH.fields()) > 0.8
    assert of(metric="accuracy", table=f"{protocol.OURS}.changes", **NAIVE_BENIGN.fields()) > 0.9
    drawn = {file.name for file in (tmp_path / "dustbin-digits").iterdir()}
    assert {"interpolated.png", "features-no dustbin, clean.png"} <= drawn
    committed = kinds(Results.load(results.RESULTS / "dustbin-mnist.json"))
    new = {kind for kind in kinds(of) if {measure.AT_ZERO, measure.REACHED} & {*kind}} - committed
    expected = {kind for kind in committed if "log-sum-exp" not in kind}
    assert kinds(of) - new == expected, "what the page looks up is what a run writes"
    for name, table in tables.TABLES["dustbin"].items():
        if name.startswith("more"):  # of another protocol
            continue
        assert table(of).count("\n") > 1, f"the table {name} has no line"

    again = Context("dustbin", "digits", True, 30, None, tmp_path, tmp_path / "parts")
    again.network = network
    monkeypatch.setattr(measure, "outcome", lambda *_, **__: pytest.fail("a finished part was measured again"))
    monkeypatch.setattr(FGSM, "__call__", lambda *_: pytest.fail("crafted again"))
    protocol.run(again, white_samples=8, cw_samples=4, figures=False)
    assert again.used <= context.used and again.rows == context.rows


@pytest.mark.parametrize("dataset", ["mnist", "cifar10"])
def test_page_finds_its_rows_in_the_committed_results(dataset):
    of = Results.load(results.RESULTS / f"dustbin-{dataset}.json")
    shown = {name: table(of) for name, table in tables.TABLES["dustbin"].items()}
    assert all(text.count("\n") > 2 or text.startswith("Not measured: `python -m evaluation dustbin") for text in shown.values())
    assert not shown["table1"].startswith("Not") and not shown["changes"].startswith("Not")
    measured = {goal.what: goal.measured(of) for goal in goals.GOALS["dustbin", dataset]}
    lacking = {goal.what for goal in goals.GOALS["dustbin", dataset] if goal.remark == LATER}
    assert None not in {what: value for what, value in measured.items() if what not in lacking}.values()
    # The line of docs/results/defenses.md and the goals say the same of the same rows.
    line = next(line for line in goals.LINES if line.results == of.name)
    (left, without), size, noise = line.adaptive(of), line.attacker.removeprefix("worst case over attacks, "), line.kind
    about = f"white-box error at {size}, the worst case over attacks, naive less both additions"
    assert left - without == pytest.approx(measured[about])
    error = measured["average error, both additions, the worse form of DeepFool"]
    assert 1 - line.paper(of)[0] == pytest.approx(error)
    assert line.benign(of) == measured[f"{noise} rejected, both additions"] > line.clean(of)
