import dataclasses
import types

import numpy as np
import pytest

from evaluation import __main__ as runner
from evaluation.papers.dnr import measure as dnr_attacks
from evaluation.papers.dnr import protocol as dnr
from evaluation.papers.dnr import tables as dnr_rows
from evaluation.runner import results
from evaluation.runner.context import Context
from tfdefense.metrics import SecurityCurve

PLAN = dataclasses.replace(
    dnr.PLANS["digits"],
    layers=("features", "scores"),
    fitted=400,
    calibrated=300,
    quick_sizes=(0, 0.5, 4),
    ordered=(0.5, 0.5),
    shown=(1,),
)
OPTIONS = {"dataset": "digits", "quick": True, "samples": 16, "data_dir": None, "output": None}
OWN = {"splits": 2, "steps": 4, "fitted": None, "vectors": 0, "figures": True}


@pytest.fixture(scope="module")
def network(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "digits-key" / "model.keras"
    path.parent.mkdir()
    classifier.save(path)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch, network):
    for name, path in (("RESULTS", "results"), ("PAGE", "RESULTS.md"), ("UNTRACKED", "runs")):
        monkeypatch.setattr(results, name, tmp_path / path)
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda context, recipe: network)
    monkeypatch.setitem(dnr.PLANS, "digits", PLAN)
    return tmp_path


def split(path, network, plan=PLAN, seed=0, number=10, fitted=400):
    context = types.SimpleNamespace(dataset="digits", data_dir=None, say=lambda text: None)
    return dnr.Split(plan, context, network, seed, number, fitted, 0)


def test_run_gives_curves_of_all_models_under_both_attacks(places, monkeypatch, capsys):
    # Each search is compiled for every model; the others are tested one by one.
    later = dnr_attacks.later_searches
    monkeypatch.setattr(dnr_attacks, "later_searches", lambda *given, **named: later(*given, **named)[:1])
    measured = []
    original = dnr.measure_curves

    def interrupted(split, method, *rest):
        if len(measured) == 4:
            raise KeyboardInterrupt
        measured.append((split.seed, method))
        return original(split, method, *rest)

    monkeypatch.setattr(dnr, "measure_curves", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.execute("dnr", dnr, **OPTIONS, **OWN)
    assert not (places / "runs" / "dnr-digits.json").exists()

    again = []
    monkeypatch.setattr(dnr, "measure_curves", lambda s, *rest: again.append((s.seed, rest[0])) or original(s, *rest))
    path = runner.execute("dnr", dnr, **OPTIONS, **OWN)
    # Three methods on each of two splits, whole and compressed at one size.
    assert len(measured) + len(again) == 2 + 6 and not set(again) & set(measured), "what was measured before is taken up"

    import json

    content = json.loads(path.read_text())
    results.check(content, path.name)
    assert path == places / "runs" / "dnr-digits.json"
    curves = {entry["what"]: entry for entry in content["series"]}
    # Of the strongest attack no share rejected is told.
    assert len(curves) == (1 + 2 + 2) + 3
    for what, curve in curves.items():
        assert curve["x"] == [0, 0.5, 4] and len(curve["deviation"]) == 3
        assert 0 <= min(curve["y"]) and max(curve["y"]) <= 1, what
    plain = curves["DNN, strongest of all starts: accuracy against l2 size"]["y"]
    assert plain[0] > 0.9 and plain[-1] < 0.2
    for method in dnr.METHODS:
        paper, strongest = (curves[f"{method}, {told}: accuracy against l2 size"]["y"] for told in dnr_attacks.ATTACKS.values())
        assert all(np.array(strongest[1:]) <= np.array(paper[1:])), "it goes on from what the paper's attack has left"
    rows = {row["what"]: row for row in content["rows"]}
    assert 0 < rows["DNR, clean rejection"]["ours"] < 0.2
    for change in ("direction 1", "dim 0.3", "shift 1"):
        assert 0 <= rows[f"NR, rejected of harmless changes, {change}"]["ours"] <= 1
    assert rows["DNR whole, time of a prediction over the plain network's"]["ours"] > 0
    assert {row["row"] for row in content["rows"]} == {"N1", "N2", "N3", "N4", "N5"}
    for kind in dnr_attacks.ATTACKS.values():
        assert 0 <= rows[f"DNR compressed, {kind}: not fooled at l2 1"]["ours"] <= 1
    figures = {file.name for file in (places / "runs" / "dnr-digits").iterdir()}
    assert {"paper.png", "strongest.png", "plane.png", "examples-DNR-1.png"} <= figures


def test_splits_keep_fitted_calibrated_and_network_samples_apart(tmp_path, network):
    plan = dataclasses.replace(PLAN, unseen=600)
    first, same, other = (split(tmp_path, network, plan, seed).data for seed in (0, 0, 1))
    from tfdefense import data

    train = data.load("digits").x
    rows = {image.tobytes(): number for number, image in enumerate(train)}
    fitted, calibrated = ({rows[image.tobytes()] for image in images} for images in (first["fitted"][0], first["calibration"]))
    assert min(fitted | calibrated) >= 600, "the network was trained on those before"
    assert not fitted & calibrated and len(fitted) == 400 and len(calibrated) == 300
    np.testing.assert_array_equal(first["attacked"][0], same["attacked"][0])
    assert not np.array_equal(first["attacked"][0], other["attacked"][0])


def test_too_many_samples_are_told(tmp_path, network):
    with pytest.raises(ValueError, match="`--samples` must be at most 397 on digits. Received 398"):
        split(tmp_path, network, number=398).data  # noqa: B018


def test_paper_attack_starts_at_the_sample_and_strongest_everywhere(classifier, held_out):
    import tfdefense as td

    x, y = held_out.x[:20], held_out.y[:20]
    defended = td.ThresholdDefense("confidence").attach(classifier)
    td.calibrate(defended, held_out.x, max_rejected=0.05)
    others = dnr_attacks.other_starts(defended, (x, y))
    assert others[0] == "base" and others[1].pool[0] is x and others[2:] == ("random",)
    assert len(dnr_attacks.other_starts(classifier, (x, y))) == 2, "a plain model has no base"
    search = dnr_attacks.attack(1.0, 10)
    assert search.starts == "sample" and search.norm == "l2" and type(search.objective).__name__ == "MaximumConfidence"
    assert search.tolerance, "the paper's stops where it is flat"
    assert dnr_attacks.attack(1.0, 10, starts=others).tolerance is None, "the others do not"


def test_machines_are_attacked_through_wider_kernels_too(classifier, held_out):
    import tfdefense as td

    defended = td.NeuralRejection().attach(classifier)
    x, y = held_out.x, held_out.y
    td.adapt(defended, x, y, calibration=x, max_rejected=0.05)
    search, log_sum_exp, selective, wider = dnr_attacks.later_searches(defended, 0.6, 10, 0, ("base", "random"), rejecting=True)
    assert search.starts == ("base", "random"), "the paper's has begun at the sample"
    assert {one.starts for one in (log_sum_exp, selective, wider)} == {("sample", "base", "random")}
    assert wider.attack is selective and wider.straight_through
    assert all(one(defended, x[:30], y[:30]).success.any() for one in (search, log_sum_exp, selective, wider))
    assert len(dnr_attacks.later_searches(classifier, 1.0, 10, 0, ("random",), rejecting=False)) == 2


def test_what_the_papers_attack_gave_up_on_is_searched_from_the_sample_to_the_end(tmp_path, network, monkeypatch):
    one = split(tmp_path, network)
    calls = []
    original = dnr_attacks.attack

    def hasty(size, steps, seed=0, starts="sample", early_stop=True):
        search = original(size, steps, seed, starts, early_stop)
        calls.append(search.starts)
        return dataclasses.replace(search, tolerance=100.0) if starts == "sample" else search

    monkeypatch.setattr(dnr_attacks, "other_starts", lambda model, pool: ("random",))
    monkeypatch.setattr(dnr_attacks, "attack", hasty)
    weak = dnr_attacks.measure_curves(one, "DNN", (0.8,), 30)
    assert calls == ["sample", ("random",), ("sample",)]
    monkeypatch.setattr(dnr_attacks, "attack", original)
    whole = dnr_attacks.measure_curves(one, "DNN", (0.8,), 30)
    assert weak["paper"]["accuracies"] > whole["paper"]["accuracies"]
    assert weak["strongest"]["accuracies"][0][0] <= whole["paper"]["accuracies"][0][0]
    # The other starts have seen those alone that the paper's attack had left.
    assert weak["paper"]["zero_gradient"][1] == 10
    assert weak["strongest"]["zero_gradient"][1] == round(10 * weak["paper"]["accuracies"][0][0]) > 0


def curve(*accuracies):
    shares = np.array([accuracies])
    return SecurityCurve(np.arange(len(accuracies), dtype=float), shares, 0 * shares, 1 - shares)


def rows_of(dnn, nr, dnr_curve, tmp_path, ordered=(1, 2)):
    context = Context("dnr", "digits", True, None, None, tmp_path, tmp_path)
    curves = {kind: {"DNN": curve(*dnn), "NR": curve(*nr), "DNR": curve(*dnr_curve)} for kind in dnr_attacks.ATTACKS}
    zeros = {kind: dict.fromkeys(dnr.METHODS, (0.25, 8)) for kind in dnr_attacks.ATTACKS}
    dnr_rows.add_curve_rows(context, curves, zeros, dataclasses.replace(PLAN, ordered=ordered), 16)
    return {row["what"]: row for row in context.rows}


def test_page_says_where_the_attack_failed(tmp_path):
    rows = rows_of((1, 0.5, 0.2, 0), (1, 0.6, 0.3, 0.05), (1, 0.7, 0.4, 0.3), tmp_path)
    notes = {m: rows[f"{m}, strongest of all starts: accuracy at l2 3"]["note"] for m in dnr.METHODS}
    assert notes["DNN"] == notes["NR"] == "" and notes["DNR"].startswith("attack failed here")
    without = rows["NR, strongest of all starts: largest share without a gradient"]
    assert (without["ours"], without["samples"]) == (0.25, 8)


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
    rows = rows_of((1, 0.5, min(nr[2], 0.2), 0.9), nr, deep, tmp_path)
    found = [row for what, row in rows.items() if "DNR at or above NR" in what]
    assert [row["ours"] for row in found] == [right, right]
    assert all(("none differs" in row["note"]) == right for row in found)


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
        plan, model = dnr.PLANS[name], build()
        assert set(plan.layers) <= {layer.name for layer in model.layers}
        recipe = recipes.find(plan.recipe)
        assert (recipe.dataset, recipe.train_samples or 0) == (name, plan.unseen)
        assert recipe.model.endswith(f":{build.__name__}")
