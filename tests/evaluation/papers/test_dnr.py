import dataclasses
import pickle
import types

import numpy as np
import pytest

from evaluation.papers.dnr import goals, measure, rows, settings, tables
from evaluation.papers.dnr import protocol as dnr
from evaluation.papers.dnr.fit import Fitted, Split, Variant
from evaluation.runner import command as runner
from evaluation.runner import results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tfdefense.attacks import Interpolated, Transferred, suites
from tfdefense.attacks.suites import papers
from tfdefense.metrics import SecurityCurve

PLAN = dataclasses.replace(
    settings.PLANS["digits"],
    layers=("features", "scores"),
    fitted=400,
    calibrated=300,
    sizes=(0, 0.25, 0.5, 0.75, 4),
    ordered=(0.5, 0.5),
    shown=(1,),
)
COMMITTED = results.RESULTS
OPTIONS = {"dataset": "digits", "quick": True, "samples": 16, "data_dir": None, "output": None}
OWN = {"splits": 2, "steps": 4, "fitted": None, "vectors": 60, "figures": True}


@pytest.fixture(scope="module")
def network(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "digits-key" / "model.keras"
    path.parent.mkdir()
    classifier.save(path)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch, network):
    for name, path in (("RESULTS", "results"), ("PAGES", "pages"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda context, recipe: network)
    monkeypatch.setitem(settings.PLANS, "digits", PLAN)
    return tmp_path


def split(network, plan=PLAN, seed=0, number=10, fitted=400):
    context = types.SimpleNamespace(dataset="digits", data_dir=None, say=lambda text: None, network=lambda recipe: network)
    context.model = lambda name, make: make()
    return Split(plan, seed, number, fitted, context)


def test_run_gives_curves_of_all_models_under_both_attacks(places, monkeypatch):
    # Each search is compiled for every model; the others are tested one by one.
    monkeypatch.setattr(suites, "get", lambda name: suites.Suite(name, papers.DNR[:2]))
    measured, original = [], dnr.measure

    def interrupted(fitted, *rest):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append(fitted)
        return original(fitted, *rest)

    monkeypatch.setattr(dnr, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute("dnr", dnr, **OPTIONS, **OWN)
    assert not (places / "runs" / "dnr-digits.json").exists()

    again = []
    monkeypatch.setattr(dnr, "measure", lambda fitted, *rest: again.append(fitted) or original(fitted, *rest))
    path = runner.execute("dnr", dnr, **OPTIONS, **OWN)
    assert path == places / "runs" / "dnr-digits.json"
    # Three systems on each of two splits.
    assert len(measured) + len(again) == 6 and not set(again) & set(measured), "what was measured before is taken up"

    of = Results.load(path)
    assert {row.row for row in of.rows} == {"N1", "N2", "N3", "N4", "N5"}
    for system in dnr.SYSTEMS:
        paper, worst = (
            of.values("epsilon", table=rows.FIGURE, system=system, starts=starts, metric=("accuracy", "robust accuracy"))
            for starts in ("sample", "all")
        )
        assert list(paper) == list(worst) == [0, 0.5, 4]
        assert all(worst[size] <= paper[size] for size in paper), "it goes on from what the paper's attack has left"
        rejected = of.values("epsilon", table=rows.FIGURE, system=system, metric=("false-positive rate", "rejection rate"))
        assert list(rejected) == ([] if system == "no defense" else [0, 0.5, 4])
    assert of(table=rows.FIGURE, system="no defense", starts="all", epsilon=0) > 0.9
    assert of(table=rows.FIGURE, system="no defense", starts="all", epsilon=4) < 0.2
    assert of.one(table=rows.FIGURE, system="DNR", starts="all", epsilon=0.5).deviation is not None, "of two splits"
    assert 0 < of(table=rows.CLEAN, system="DNR", metric="false-positive rate", perturbation="") < 0.2
    assert len(of.all(table=rows.CLEAN, system="NR", perturbation=("direction", "dim", "shift"))) == 3
    assert of(metric="count", detector="compressed") < of(metric="count", detector="all support vectors")
    figures = {file.name for file in (places / "runs" / "dnr-digits").iterdir()}
    assert {"paper.png", "worst_case.png", "plane.png", "examples-DNR-1.png"} <= figures
    committed = Results.load(COMMITTED / "dnr-mnist.json")
    assert kinds(of) == kinds(committed), "pages and goals look up what a run writes"
    for name, table in tables.TABLES["dnr"].items():
        head, committed_head = (table(found).splitlines()[0] for found in (of, committed))
        assert head == committed_head and len(table(of).splitlines()) > 2, name


def kinds(of):
    fields = ("table", "row", "metric", "system", "base", "detector", "attack", "norm", "starts", "knowledge", "perturbation")
    return {tuple(row.get(name) for name in fields) for row in of.rows}


@pytest.mark.parametrize("protocol, dataset", goals.GOALS)
def test_every_goal_finds_its_number(protocol, dataset):
    of = Results.load(COMMITTED / f"{protocol}-{dataset}.json")
    assert all(goal.measured(of) is not None for goal in goals.GOALS[protocol, dataset])


def test_a_split_can_be_handed_to_another_process(places, network):
    context = Context("dnr", "digits", True, None, None, places, places)
    one = Fitted(Variant("no defense"), Split(PLAN, 0, 10, 400, context))
    one.model()
    other = pickle.loads(pickle.dumps(one))
    assert other == one and other.model() is one.model(), "parts of one process share its models"
    assert other != dataclasses.replace(one, variant=Variant("NR"))


def test_splits_keep_fitted_calibrated_and_network_samples_apart(network):
    plan = dataclasses.replace(PLAN, unseen=600)
    first, same, other = (split(network, plan, seed, number).data() for seed, number in ((0, 10), (0, 11), (1, 10)))
    from tfdefense import data

    train = data.load("digits").x
    rows = {image.tobytes(): number for number, image in enumerate(train)}
    fitted, calibrated = ({rows[image.tobytes()] for image in images} for images in (first["fitted"][0], first["calibration"]))
    assert min(fitted | calibrated) >= 600, "the network was trained on those before"
    assert not fitted & calibrated and len(fitted) == 400 and len(calibrated) == 300
    np.testing.assert_array_equal(first["attacked"][0], same["attacked"][0][:10])
    assert not np.array_equal(first["attacked"][0], other["attacked"][0])


def test_too_many_samples_are_told(network):
    with pytest.raises(ValueError, match="`--samples` must be at most 397 on digits. Received 398"):
        split(network, number=398).data()


def test_svms_are_attacked_from_every_start_and_through_wider_kernels(network):
    one = Fitted(Variant("NR"), split(network, number=30))
    x, y = one.split.data()["attacked"]
    more = Transferred(one.split.load("clean"))
    found = suites.get(measure.SUITE).attacks(measure.situation(one, 0.6, 10, (more,)))
    assert list(found)[-2:] == ["selective PGD, BPDA", "paper, all steps"]
    assert found["log-sum-exp"].starts[0] == "sample" and found["log-sum-exp"].starts[-1] is more
    pools = [start.pool for start in found["log-sum-exp"].starts if isinstance(start, Interpolated)]
    np.testing.assert_array_equal(pools[0][0], one.split.data()["fitted"][0])
    for name, attack in found.items():
        assert attack(one.model(), x, y).success.any(), name


def test_what_the_papers_attack_gave_up_on_is_searched_from_the_sample_to_the_end(network, monkeypatch):
    one = Fitted(Variant("no defense"), split(network))
    paper, *_, to_the_end = papers.DNR

    def curves(first):
        monkeypatch.setattr(suites, "get", lambda name: suites.Suite(name, (first, to_the_end)))
        return measure.measure_curves(one, (0.8,), 30)

    whole = curves(paper)
    weak = curves(dataclasses.replace(paper, make=lambda s: dataclasses.replace(paper.make(s), tolerance=100.0)))
    assert weak["paper"]["accuracies"] > whole["paper"]["accuracies"]
    assert weak["worst_case"]["accuracies"][0][0] <= whole["paper"]["accuracies"][0][0]
    # The others have seen those alone that the paper's attack had left.
    assert weak["paper"]["zero_gradient"][1] == 10
    assert weak["worst_case"]["zero_gradient"][1] == round(10 * weak["paper"]["accuracies"][0][0]) > 0


def curve(*accuracies):
    shares = np.array([accuracies])
    return SecurityCurve(np.arange(len(accuracies), dtype=float), shares, 0 * shares, 1 - shares)


def test_a_curve_that_does_not_fall_to_zero_is_an_upper_limit(tmp_path):
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    curves = {"paper": curve(1, 0.7, 0.4, 0.3), "worst_case": curve(1, 0.5, 0.2, 0)}
    rows.add_curves(context, rows.FIGURE, "N5", curves, dict.fromkeys(curves, (0.25, 8)), 16, system="NR")
    of = Results({"rows": [row.plain() for row in context.rows]})
    assert [row.flags for row in of.all(starts="sample", table=rows.FIGURE)] == [(), *[(rows.FAILED,)] * 3]
    assert [row.flags for row in of.all(starts="all", table=rows.FIGURE)] == [()] * 4
    without = of.one(metric="zero-gradient rate", starts="sample")
    assert (without.value, without.n) == (0.25, 8)


@pytest.mark.parametrize(
    "nr, deep, right",
    [
        ((1, 0.6, 0.3, 0), (1, 0.6, 0.4, 0), True),
        ((1, 0.6, 0.3, 0), (1, 0.5, 0.4, 0), False),
        ((1, 0.6, 0.2, 0), (1, 1, 1, 1), False),
        ((1, 0.6, 0.01, 0), (1, 0.6, 0.0, 0), True),
    ],
)
def test_order_of_the_methods_is_checked_where_the_paper_shows_it(nr, deep, right, tmp_path):
    # Where next to nothing holds there is no order to break.
    found = {"no defense": curve(1, 0.5, min(nr[2], 0.2), 0.9), "NR": curve(*nr), "DNR": curve(*deep)}
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    rows.add_order(context, {system: dict.fromkeys(measure.ATTACKS, of) for system, of in found.items()}, 1, 2, 16)
    assert [row.value for row in context.rows] == [right, right] and [row.paper for row in context.rows] == [1.0, None]
    assert all(("none differs" in row.note) == right for row in context.rows)


def test_figure_of_the_plane_shows_an_attack_that_gets_through(tmp_path):
    from evaluation.papers.dnr.figures import plane

    figure = plane(tmp_path / "plane.png")
    left, right = figure.axes[:2]
    start, found = (np.array(line.get_xydata()[0]) for line in left.lines[:2])
    assert 0.2 < np.linalg.norm(found - start) <= 0.29
    # The patch of the region that the point ends in is that of another class, not the white of rejection.
    assert found[0] > 0.5
    assert (tmp_path / "plane.png").stat().st_size > 10_000


def test_every_plan_names_layers_of_its_network():
    from models.carlini import carlini_cnn
    from models.small import digits_cnn
    from models.vgg_small import vgg_small
    from training import recipe as recipes

    for name, build in (("mnist", carlini_cnn), ("cifar10", vgg_small), ("digits", digits_cnn)):
        plan, model = settings.PLANS[name], build()
        assert set(plan.layers) <= {layer.name for layer in model.layers}
        recipe = recipes.find(plan.recipe)
        assert (recipe.dataset, recipe.train_samples or 0) == (name, plan.unseen)
        assert recipe.model.endswith(f":{build.__name__}")
