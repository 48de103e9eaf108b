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
from tfdefense.attacks.suites import Attacker
from tfdefense.metrics import SecurityCurve

PLAN = dataclasses.replace(
    settings.PLANS["digits"],
    layers=("features", "scores"),
    fitted=400,
    calibrated=300,
    sizes=(0, 0.25, 0.5, 0.75, 4),
    ordered=(0.5, 0.5),
    shown=(1,),
    grid=(("C", (1.0,)), ("gamma", ("scale",))),
)
COMMITTED = results.RESULTS
# Each search is compiled for every model: this one goes by a step that is compiled already. The others are tested with the suites.
FEW = (Attacker("from random points", "adaptive", lambda s: _elsewhere(s), search=True),)
OPTIONS = {"dataset": "digits", "quick": True, "samples": 16, "data_dir": None, "output": None}
OWN = {"splits": 2, "steps": 4, "fitted": None, "vectors": 60, "worst_case": 12, "figures": True}


def _elsewhere(situation):
    return dataclasses.replace(measure.descent("best", situation.epsilon, 30.0, situation.steps), starts=("random",))


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
    monkeypatch.setattr(Context, "network", lambda context, recipe, **settings: network)
    monkeypatch.setitem(settings.PLANS, "digits", PLAN)
    return tmp_path


def split(network, plan=PLAN, seed=0, number=10, fitted=400):
    context = types.SimpleNamespace(
        dataset="digits", data_dir=None, say=lambda text: None, network=lambda recipe, **settings: network
    )
    context.model = lambda name, make: make()
    return Split(plan, seed, number, fitted, context)


@pytest.mark.long
def test_run_gives_curves_of_all_models_under_all_attacks(places, monkeypatch):
    monkeypatch.setattr(suites, "get", lambda name: suites.Suite(name, FEW))
    monkeypatch.setattr(measure, "STEP_SIZES", (1.0, 30.0))
    # Those searches begin at no network of the attacker's own.
    monkeypatch.setattr(measure._Search, "substitute", None)
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
        about = {"table": rows.FIGURE, "system": system}
        printed, best, worst = (
            of.values("epsilon", metric=("accuracy", "robust accuracy"), **about, **each)
            for each in ({"kept": "last point"}, {"kept": "best point"}, {"starts": "all"})
        )
        assert list(printed) == list(best) == list(worst) == [0, 0.5, 4]
        lengths = [row.note for row in of.all(kept="best point", metric="robust accuracy", **about)]
        assert all(note.startswith("step size ") for note in lengths) and len(lengths) == 2
        assert (
            of.one(starts="all", epsilon=4, **about).n
            == 12
            < of.one(kept="best point", metric="robust accuracy", epsilon=4, **about).n
        )
        rates = of.values("epsilon", metric=("false-positive rate", "rejection rate"), kept="last point", **about)
        assert list(rates) == ([] if system == "no defense" else [0, 0.5, 4])
        assert 0 < of(table=rows.DISTANCE, system=system) < 4
    assert of(table=rows.FIGURE, system="no defense", starts="all", epsilon=0) > 0.9
    assert of(table=rows.FIGURE, system="no defense", starts="all", epsilon=4) < 0.2
    assert of.one(table=rows.FIGURE, system="DNR", starts="all", epsilon=0.5).deviation is not None, "of two splits"
    assert 0 < of(table=rows.CLEAN, system="DNR", metric="false-positive rate", perturbation="") < 0.2
    assert len(of.all(table=rows.CLEAN, system="NR", perturbation=("direction", "dim", "shift"))) == 3
    assert of(metric="count", detector="compressed") < of(metric="count", detector="all support vectors")
    figures = {file.name for file in (places / "runs" / "dnr-digits").iterdir()}
    assert {"printed.png", "best.png", "worst_case.png", "plane.png", "examples-DNR-1.png"} <= figures
    for name, table in tables.TABLES["dnr"].items():
        assert len(table(of).splitlines()) > 2, name
    assert goals.GOALS["dnr", "mnist"][0].measured(of) is not None
    assert goals.GOALS["dnr", "mnist"][1].measured(of) is not None


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


def test_the_worst_case_starts_everywhere_and_goes_through_wider_kernels(network):
    one = Fitted(Variant("NR"), split(network, number=30))
    more = Transferred(one.split.load("clean"))
    found = suites.get(measure.SUITE).worst_case(measure.situation(one, 0.6, (more,))).named
    assert "selective PGD, BPDA" in found and found["log-sum-exp"].starts[-1] is more and "sample" in found["log-sum-exp"].starts
    pools = [start.pool for start in found["log-sum-exp"].starts if isinstance(start, Interpolated)]
    np.testing.assert_array_equal(pools[0][0], one.split.data()["fitted"][0])


def test_the_worst_case_goes_on_from_what_the_papers_attack_has_left(network, monkeypatch):
    one = Fitted(Variant("no defense"), split(network))
    monkeypatch.setattr(suites, "get", lambda name: suites.Suite(name, FEW))
    found = measure.measure_curves(one, (0, 0.8), 3, 10)
    left = {kind: each["accuracies"][0][1] for kind, each in found.items()}
    assert left["worst_case"] <= left["best"] <= left["printed"]
    # The others have seen those alone that the paper's attack had left.
    assert found["best"]["zero_gradient"][1] == 10
    assert found["worst_case"]["zero_gradient"][1] == round(10 * left["best"]) < 10


def test_the_step_size_that_leaves_least_is_chosen_on_other_samples(network, monkeypatch):
    one = Fitted(Variant("no defense"), split(network))
    tried = []

    class Descent:
        def __init__(self, step_size):
            self.step_size = step_size

        def __call__(self, model, x, y):
            tried.append((self.step_size, x))
            return types.SimpleNamespace(success=np.arange(len(x)) < {3.0: 9, 10.0: 9}.get(self.step_size, 2))

    monkeypatch.setattr(measure, "descent", lambda kind, size, step_size, steps: Descent(step_size))
    assert measure._Search(one, 5).step_sizes("best", [1.0]) == {1.0: 3.0}
    assert [length for length, _ in tried] == list(measure.STEP_SIZES)
    attacked = {image.tobytes() for image in one.split.data()["attacked"][0]}
    assert not any(image.tobytes() in attacked for _, x in tried for image in x)


def test_algorithm_1_with_the_step_sizes_of_a_sweep_finds_more_than_one_that_is_too_short(network):
    """On a plain network the objective is the margin, whose slope is known to lead to a class boundary."""
    one = Fitted(Variant("no defense"), split(network, number=30))
    x, y = one.split.data()["attacked"]
    chosen = measure._Search(one, 30).step_sizes("printed", [0.8])[0.8]
    left = [1 - measure.descent("printed", 0.8, length, 30)(one.model(), x, y).success.mean() for length in (1e-6, chosen)]
    assert left[1] < left[0] - 0.3


def curve(*accuracies):
    shares = np.array([accuracies])
    return SecurityCurve(np.arange(len(accuracies), dtype=float), shares, 0 * shares, 1 - shares)


def test_a_curve_that_does_not_fall_to_zero_is_an_upper_limit(tmp_path):
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    high, low = curve(1, 0.7, 0.4, 0.3), curve(1, 0.5, 0.2, 0)
    curves = {"printed": high, "best": high, "worst_case": low}
    found = {kind: {"zero_gradient": (0.25, 8), "step_sizes": [1.0, 3.0, 10.0], "n": 16} for kind in curves}
    rows.add_curves(context, rows.FIGURE, "N5", curves, [found], system="NR")
    of = Results({"rows": [row.plain() for row in context.rows]})
    assert [row.flags for row in of.all(kept="best point", table=rows.FIGURE)] == [(), *[(rows.FAILED,)] * 3]
    assert [row.flags for row in of.all(starts="all", table=rows.FIGURE)] == [()] * 4
    assert [row.note for row in of.all(kept="best point", table=rows.FIGURE)][2:] == ["step size 3", "step size 10"]
    without = of.one(metric="zero-gradient rate", kept="best point")
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
    plan = dataclasses.replace(PLAN, ordered=(1, 2))
    rows.add_orders(context, {system: dict.fromkeys(measure.ATTACKS, of) for system, of in found.items()}, plan, 16)
    assert [row.value for row in context.rows] == [right] * 3 and [row.paper for row in context.rows] == [1.0, 1.0, None]
    assert all(("none differs" in row.note) == right for row in context.rows)


def test_nr_rejects_more_where_the_paper_says_so(tmp_path):
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    rejected = {"no defense": [0, 0, 0], "NR": [0.1, 0.4, 0.5], "DNR": [0.1, 0.3, 0.6]}
    sizes, ones = np.arange(3.0), np.ones((1, 3))
    curves = {name: SecurityCurve(sizes, ones, np.array([rates]), 0 * ones) for name, rates in rejected.items()}
    plan = dataclasses.replace(PLAN, ordered=(1, 1), rejecting=(1, 2))
    rows.add_orders(context, {name: dict.fromkeys(measure.ATTACKS, of) for name, of in curves.items()}, plan, 16)
    more = [row for row in context.rows if row.get("order") == "NR rejects more than DNR"]
    assert [row.value for row in more] == [0.0, 0.0] and all("differs at l2 2" in row.note for row in more)


def test_a_distance_is_the_median_over_samples_and_the_mean_over_splits(tmp_path):
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    rows.add_distance(context, [[1.0, 2.0, None], [4.0, 4.0, 0.0]], system="NR")
    assert (context.rows[0].value, context.rows[0].n) == (3.0, 3)
    rows.add_distance(context, [[1.0, None, None]], system="DNR")
    assert context.rows[1].value is None and "the attack failed" in context.rows[1].note


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
