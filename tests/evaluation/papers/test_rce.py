import dataclasses
import pickle
from concurrent.futures import Future
from pathlib import Path

import keras
import numpy as np
import pytest

from evaluation.papers.rce import measure, reproduce, spread
from evaluation.papers.rce import protocol as rce
from evaluation.papers.rce.bandwidth import BANDWIDTHS
from evaluation.papers.rce.goals import _LATER as LATER
from evaluation.papers.rce.goals import GOALS
from evaluation.papers.rce.tables import TABLES
from evaluation.runner import results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results, beside_paper, make, paper_numbers
from tfdefense.attacks import FGSM, CarliniWagner


@pytest.fixture(scope="module")
def path(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "model.keras"
    bare = keras.models.clone_model(classifier)
    bare.set_weights(classifier.get_weights())
    bare.save(path)
    (path.parent / "config.json").write_text('{"test_accuracy": 0.75, "seconds": 12.3}')
    return path


@pytest.fixture(scope="module", autouse=True)
def forgetful():
    """Networks of other tests are trained alike and are others."""
    measure.models_of.cache_clear()


@pytest.fixture(scope="module")
def network(path, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    context = Context("rce", "digits", True, None, None, place, place, commit="abc")
    context.network = lambda recipe, **options: path
    context.settings.update({"samples": 40, "C&W samples": 6, "C&W-wb samples": 6})
    return reproduce.networks_of(context, {"depth": 8})[0]


def test_paper_numbers_are_where_they_belong():
    known = paper_numbers(Path(rce.__file__).parent)

    def of(dataset, table, metric="AUROC", **fields):
        return beside_paper(make(f"pang2018.{table}", metric, 0.5, **fields), dataset, known).paper

    def auc(dataset, attack, system, detector, table="table2", **about):
        return of(dataset, table, attack=attack, system=system, detector=detector, **about or {"network": "substitute"})

    assert auc("cifar10", "BIM", "CE", "confidence") == 0.0
    aimed = {"network": "substitute", "target": "random"}
    assert auc("mnist", "C&W-hc", "RCE", "K-density", **aimed) == 0.996
    assert auc("mnist", "C&W-hc", "RCE", "K-density") is None, "the paper's attacks have a target"
    assert auc("mnist", "C&W-hc", "RCE", "K-density", **aimed | {"network": "target"}) is None, "it is of another network"
    assert auc("mnist", "JSMA", "CE", "non-ME", network="substitute", target="least likely") == 0.601
    assert auc("digits", "BIM", "CE", "K-density") is None and auc("mnist", "C&W-hc own kappa", "CE", "K-density") is None
    bandwidths = [auc("mnist", "BIM", "CE", "K-density", "ours.bandwidth", bandwidth=name) for name in BANDWIDTHS]
    assert bandwidths == [0.9, None, None]
    assert auc("mnist", "C&W-hc", "CE", "K-density", "ours.bandwidth", bandwidth="paper's") == 0.911
    white = {"table": "table3", "system": "RCE", "network": "substitute", "target": "random"}
    assert of("mnist", metric="robust accuracy", starts="C&W example", **white) == 0.77
    assert of("mnist", metric="mean distance", starts="C&W example", **white) == 31.59
    assert of("mnist", metric="mean distance", starts="sample", **white) is None
    both = {"substitute": "RCE", "system": "CE", "network": "target", "target": "random"}
    assert of("cifar10", "table1", "error rate", system="CE", network="target") == 0.0649
    assert (of("cifar10", "table4", **both), of("mnist", "table4", **both)) == (0.908, None)


def test_auc_is_that_of_scikit_learn_over_the_pairs(network, classifier, held_out):
    from sklearn.metrics import roc_auc_score

    x, y = held_out.x[:80], held_out.y[:80]
    x_adv = FGSM(0.25)(classifier, x, y).x_adv
    found = measure.scored(network, np.arange(80), y, clean=x, attacked=x_adv, noisy=measure.noisy(x, 0.25))
    scores = [keras.ops.softmax(classifier(v)).numpy() for v in (x, x_adv, measure.noisy(x, 0.25))]
    pairs = np.flatnonzero((scores[0].argmax(1) == y) & (scores[1].argmax(1) != y))
    assert found["rows"] == pairs.tolist() and len(pairs) > 10
    for kind, negative in (("clean", scores[0]), ("noisy", scores[2])):
        expected = roc_auc_score(np.repeat([0, 1], len(pairs)), -np.concatenate([negative.max(1)[pairs], scores[1].max(1)[pairs]]))
        one = [(found["rows"], found[kind]["confidence"], found["attacked"]["confidence"])]
        assert spread.over(one, 80, spread.auc)["value"] == pytest.approx(expected, abs=1e-3)
        two = [(found["rows"], found[kind]["K-density"], found["attacked"]["K-density"])]
        assert 0.5 < spread.over(two, 80, spread.auc)["value"] <= 1


def test_targets_are_wrong_classes_and_the_same_for_every_network(network, classifier, held_out, monkeypatch):
    _, y = network.attacked()
    targets = measure.random_targets(y)
    assert np.all(targets != y) and set(targets) == set(range(10))
    np.testing.assert_array_equal(targets, measure.random_targets(y))
    # The network has the first two wrong, and the others keep their targets.
    right = classifier(held_out.x).numpy().argmax(-1) == held_out.y
    chosen = np.concatenate([np.flatnonzero(~right)[:2], np.flatnonzero(right)[:4]])
    monkeypatch.setattr(measure.Network, "attacked", lambda self, count=None: (held_out.x[chosen], held_out.y[chosen]))
    found = measure.oblivious(network, "Carlini-Wagner, random")
    x, y, rows = network.right()
    aim = measure.random_targets(held_out.y[chosen])[2:]
    result = measure.search(True)(network.models.base, x, y, aim)
    np.testing.assert_array_equal(result.label[result.success], aim[result.success])
    assert found["lost"] == rows[result.success].tolist() and len(found["rms"]) == result.success.sum() > 2


def test_detectors_are_set_as_the_paper_sets_them(network, digits):
    rejected = np.mean(network.models.detectors["K-density"](network.data.calibration.x)["label"].numpy() == -1)
    assert rejected == pytest.approx(0.05, abs=0.006)
    assert np.mean(network.models.white_box(digits.x)["suspicion"].numpy() > 0) == pytest.approx(0.5, abs=0.01)


def test_no_sample_is_both_attacked_and_calibrated_on(network):
    settings = network.context.settings | {"samples to choose on": 50}
    data = dataclasses.replace(network, context=dataclasses.replace(network.context, settings=settings)).data
    groups = [{one.x[row].tobytes() for row in range(len(one))} for one in (data.attacked, data.held_out, data.calibration)]
    assert [len(group) for group in groups] == [40, 50, len(data.test) - 90]
    assert len(set.union(*groups)) == len(data.test)


def test_own_kappa_is_over_the_samples_that_are_right(classifier, held_out):
    scores = np.sort(classifier(held_out.x).numpy(), -1)
    right = classifier(held_out.x).numpy().argmax(-1) == held_out.y
    want = np.median((scores[:, -1] - scores[:, -2])[right])
    assert measure.own_kappa(classifier, held_out.x, held_out.y) == pytest.approx(1.3 * want, abs=1e-3)


def test_samples_that_were_wrong_are_no_success(network, classifier, held_out, monkeypatch):
    right = classifier(held_out.x).numpy().argmax(-1) == held_out.y
    rows = np.concatenate([np.flatnonzero(~right)[:2], np.flatnonzero(right)[:4]])
    x, y = held_out.x[rows], held_out.y[rows]
    monkeypatch.setattr(measure.Network, "attacked", lambda self, count=None: (x, y))
    found = measure.oblivious(network, "Carlini-Wagner")
    assert found["lost"] == [2, 3, 4, 5] and np.mean(found["rms"]) > 1
    # A detector that lets everything pass: the wrong samples would all succeed as they are.
    monkeypatch.setattr(network.models, "white_box", network.models.detectors["confidence"])
    white = measure.white_box(network, "sample", CarliniWagner(steps=5, binary_search_steps=1), 6)
    assert white["right"] == [False] * 2 + [True] * 4 and not any(white["success"][:2])


def test_better_takes_success_and_then_the_shorter_way():
    first = {"success": [True, False, True, False], "rms": [3.0, 1.0, 1.0, 1.0], "x_adv": ["a"] * 4}
    second = {"success": [True, True, True, False], "rms": [2.0, 9.0, 5.0, 0.5], "x_adv": ["b"] * 4}
    assert measure.better(first, second)["x_adv"] == ["b", "b", "a", "b"], "of two failures the second: its start misleads"


def test_distortions_are_compared_over_what_both_lose(network):
    ce = {"right": [True] * 3, "success": [True, True, False], "rms": [2.0, 4.0, 9.0]}
    rce_ = {"right": [True] * 3, "success": [False, True, True], "rms": [1.0, 6.0, 1.0]}
    context = dataclasses.replace(network.context, rows=[])
    reproduce.ratio_row(context, [(ce, rce_), (ce, ce)], starts="sample")
    reproduce.ratio_row(context, [(ce | {"success": [True, False, False]}, rce_)], starts="C&W example")
    reproduce.failing_row(context, [network], [ce | {"right": [True, False, True]}], starts="sample")
    several, none, failing = context.rows
    assert (several.value, several.n) == (1.25, 3) and several.deviation == pytest.approx(0.5 / 2**0.5)
    assert (none.value, none.n, none.note) == (None, 0, reproduce.NONE) and (failing.value, failing.n) == (0.5, 2)


class Pickling:
    """Hands parts out as other processes are handed them, and works on them here."""

    workers = 1

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*pickle.loads(pickle.dumps(arguments))))
        return future


@pytest.mark.long
def test_whole_protocol_gives_every_row(path, tmp_path, monkeypatch, drawn):
    asked = []
    monkeypatch.setattr(Context, "network", lambda self, recipe, **options: asked.append((recipe, options)) or path)
    monkeypatch.setattr(measure, "search", lambda quick, **more: CarliniWagner(steps=8, binary_search_steps=2, **more))
    monkeypatch.setattr(reproduce, "SIZES", {"digits": (0.0, 0.2)})
    monkeypatch.setattr(reproduce, "THETAS", {"digits": (0.0, 1.0)})
    monkeypatch.setattr(rce, "ADAPTIVE", {"digits": {"l2": (1.0,)}})
    # Trained as the one that everything is measured on: it costs nothing again.
    monkeypatch.setattr(rce, "TRIES", {"digits": (("rce", rce.TRAININGS[0], {"depth": 8}),)})

    # All are one file: what they do not share is the bandwidth.
    real, shared = measure.models_of, {}

    def models_of(network):
        if network.sigma not in shared:
            shared[network.sigma] = real(network)
        return shared[network.sigma]

    monkeypatch.setattr(measure, "models_of", models_of)

    def context():
        return Context("rce", "digits", True, 30, None, tmp_path, tmp_path / "parts", commit="abc", executor=Pickling())

    first = context()
    rce.run(first, cw_samples=6, seeds=2)
    trained = {(recipe, options["depth"], options.get("seed", 0)) for recipe, options in asked if "optimizer" not in options}
    expected = {(f"digits_resnet_{loss}", depth, seed) for depth in (8, 14) for loss in ("ce", "rce") for seed in (0, 1)}
    assert trained == expected | {("digits_resnet_ls", 8, 0), ("digits_resnet_ls", 8, 1)}
    assert first.settings["trained in"] == "CE 12 s, RCE 12 s"
    assert len(first.settings["weights"]) == 10 and len(set(first.settings["weights"].values())) == 1
    pictures = {file.stem for file in (tmp_path / "rce-digits").iterdir()}
    assert {"fgsm", "bim", "ilcm", "jsma", "jsma-least-likely", "adaptive-l2", "tsne-ce", "tsne-rce"} <= pictures
    found = Results.load(results.write(first, 1.0, tmp_path))
    assert {row.row for row in found.rows} == {f"R{number}" for number in range(1, 10)}
    assert found.values("learning rate", table="pang2018.ours.sgd", system="RCE") == dict.fromkeys(rce.RATES["rce"], 0.25)
    assert len(found.all(table="pang2018.table2", network="substitute")) == 3 * 11 * 3
    for attack in ("FGSM", "BIM"):
        fields = {"table": "pang2018.table2", "system": "RCE", "detector": "K-density", "attack": attack, "target": None}
        both = found.one(network=rce.TRAININGS[0], **fields), found.one(network="substitute", **fields)
        # Of two networks that are the same one.
        assert both[0].value == both[1].value and both[1].deviation == 0 and both[1].n == 2 * both[0].n
        assert both[0].interval == pytest.approx(both[1].interval) and both[0].interval[0] <= both[0].value <= both[0].interval[1]
        fields |= {"table": "pang2018.ours.seeds", "of": "table2"}
        assert list(found.values("seed", network="substitute", **fields).values()) == [both[0].value] * 2
    made_alike(found, "rce")

    monkeypatch.setattr(measure, "models_of", lambda _: pytest.fail("a finished part was measured again"))
    drawn()
    again = context()
    rce.run(again, cw_samples=6, seeds=2)
    assert again.rows == first.rows
    # Another network under the same key: nothing that was measured on the old one is taken.
    monkeypatch.setattr(measure, "fingerprint", lambda network: "another")
    with pytest.raises(pytest.fail.Exception):
        rce.run(context(), cw_samples=6, seeds=2)


# What newer code measures, and columns that came with it.
NEW = ("table 2, targeted", "table 3, targeted", "table 4, targeted", "figure 2b, targeted", "figure 2a, JSMA of single pixels")
NEW += ("noise", "seeds", "weights")
WIDER = ("table 1", "figure 2a", "figure 2a, JSMA", "figure 2b")


def made_alike(found, protocol):
    """What the page looks up is in a new run as in the results that are here: the tables have the same columns and lines."""
    shown = Results.load(results.RESULTS / f"{protocol}-mnist.json")
    for name, table in TABLES[protocol].items():
        new, old = (table(each).splitlines() for each in (found, shown))
        assert len(new) > 2, name
        if name not in NEW + WIDER:
            assert new[0] == old[0], name
    kinds = {(row.table, row.metric, *sorted(row.settings)) for row in found.rows}
    assert kinds >= {(row.table, row.metric, *sorted(row.settings)) for row in shown.rows}


def test_tables_without_rows_say_what_measures_them():
    shown = Results.load(results.RESULTS / "rce-mnist.json")
    without = Results(shown.about | {"rows": []}, "rce-mnist")
    assert TABLES["rce"]["noise"](without).startswith("Not measured: `python -m evaluation rce --dataset mnist")


def test_transfer_of_few_pairs_is_not_measured():
    context = {"commit": "abc", "rows": []}
    for n, substitute in ((199, "CE"), (200, "RCE")):
        row = make("pang2018.table4", "AUROC", 0.75, system="CE", substitute=substitute, n=n, interval=(0.7, 0.8), deviation=0.01)
        context["rows"].append(dataclasses.replace(row, paper=0.908).plain())
    _, _, few, enough = TABLES["rce"]["table 4"](Results(context, "rce-mnist")).splitlines()
    assert few == "| CE | not measured: n = 199, fewer than 200 (paper 0.908) |"
    assert enough == "| RCE | 0.750 [0.700, 0.800] ± 0.010 (paper 0.908), n = 200 |"


@pytest.mark.parametrize("name", ["rce-mnist", "rce-cifar10", "rce_bandwidth-mnist"])
def test_goals_find_their_numbers(name):
    found = Results.load(results.RESULTS / f"{name}.json")
    missing = [goal.what for goal in GOALS[tuple(name.split("-"))] if goal.measured(found) is None]
    # Newer code measures these; results that have fingerprints of the weights have them all.
    if "weights" not in found.settings:
        missing = [what for what in missing if what not in [goal.what for goal in LATER]]
    # The narrow kernel rejects all that C&W-wb finds.
    assert len(missing) == (name == "rce_bandwidth-mnist"), missing


def test_networks_of_the_papers_schedule(path, tmp_path, monkeypatch):
    """Which networks it takes; what is measured on them is what `rce` measures."""
    from evaluation.papers.rce import paper

    taken = []
    monkeypatch.setattr(rce, "paper", lambda context, networks, targets, smoothed: taken.extend([networks, targets, smoothed]))
    monkeypatch.setattr(rce, "ours", lambda context, networks: taken.append(networks))
    asked = []
    monkeypatch.setattr(Context, "network", lambda self, recipe, **options: asked.append((recipe, options)) or path)
    context = Context("rce_paper", "digits", False, 40, None, tmp_path, tmp_path / "parts", commit="abc")
    paper.run(context, seeds=2)
    networks, targets, smoothed, first = taken
    assert [each.trained_as for each in networks[:2]] == ["CE_sgd, depth 8", "CE_sgd, depth 8, seed 1"]
    assert (len(networks), len(targets), smoothed) == (4, 4, ()) and first == [networks[0], networks[2]]
    assert [each.path for each in (networks[3], targets[3])] == [path, path]
    assert asked == [("digits_resnet_rce_sgd", {"depth": 8, "seed": 1}), ("digits_resnet_rce", {"depth": 8, "seed": 1})]
    assert paper.DEPTHS["mnist"] == 32 and set(TABLES["rce_paper"]) <= set(TABLES["rce"])
