import dataclasses

import numpy as np
import pytest

from evaluation.papers.dnr import measure, rows, settings, tables, trained
from evaluation.papers.dnr.fit import ROBUST, Fitted, Split, Variant
from evaluation.papers.dnr.measure import measure_clean
from evaluation.papers.dnr.trained import END_TO_END
from evaluation.runner import command as runner
from evaluation.runner import results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tests.evaluation.papers.test_dnr import FEW
from tfdefense.attacks import suites
from tfdefense.layers import RBFSVM

PLAN = dataclasses.replace(
    settings.PLANS["digits"], layers=("features", "scores"), fitted=300, calibrated=300, trained_sizes=(0, 0.5, 4)
)
PLAIN = Variant("no defense")
CONFIDENT = Variant("confidence", ROBUST, on=PLAIN)
WIDE = Variant("DNR", detector="wide", gamma="0.25*scale")
EARLY = Variant("DNR", detector="early", layers="one more")
TUNED = Variant("DNR", **END_TO_END)
SVMS = Variant("DNR", detector="SVMs", vectors=500, tune="SVMs")
UNTOUCHED = Variant("DNR", detector="compressed", vectors=500)


@pytest.fixture(scope="module")
def networks(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks")
    for name in ("digits", "digits_pgd"):
        (folder / name).mkdir()
        classifier.save(folder / name / "model.keras")
    return folder


@pytest.fixture
def context(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, recipe, **settings: networks / recipe / "model.keras")
    monkeypatch.setitem(settings.PLANS, "digits", PLAN)
    monkeypatch.setitem(settings.LAYERS, "digits", {"one more": ("conv_1", "scores")})
    return Context("dnr_trained", "digits", True, 12, None, tmp_path / "runs", tmp_path / "parts")


def fitted(context, variant):
    return Fitted(variant, Split(PLAN, 0, 12, 300, context), 1)


def right_and_rejected(made, model):
    found = measure_clean(model, *made.split.data()["clean"], 1.0)
    return found["accuracy"], found["rejection"]


def svms_of(model):
    return [layer for layer in model.layers if isinstance(layer, RBFSVM)]


def test_a_network_without_svms_is_trained_on_too(context):
    made = fitted(context, dataclasses.replace(trained.FINE_TUNED, base="clean"))
    before = made.split.load("clean").get_layer("features").kernel.numpy()
    model = made.model()
    assert not np.array_equal(model.get_layer("features").kernel.numpy(), before)
    assert right_and_rejected(made, model)[0] > 0.8


def test_settings_of_a_variant_reach_the_svms(context):
    wide, early = (svms_of(fitted(context, variant).model()) for variant in (WIDE, EARLY))
    assert [layer.gamma for layer in wide] == ["0.25*scale"] * 3
    assert [layer.features for layer in early] == [4 * 4 * 32, 10, 20]


@pytest.mark.long
@pytest.mark.parametrize(("variant", "network_moves"), [(TUNED, True), (SVMS, False)])
def test_fine_tuning_moves_what_the_variant_says(context, variant, network_moves, monkeypatch):
    made = fitted(context, variant)
    before = made.split.load("clean").get_layer("features").kernel.numpy()
    model = made.model()
    assert all(layer.vectors <= 500 and layer.adapted for layer in svms_of(model))
    assert (not np.array_equal(model.get_layer("features").kernel.numpy(), before)) == network_moves
    untouched = fitted(context, UNTOUCHED).model()
    assert not np.array_equal(*(svms_of(each)[0].support_vectors.numpy() for each in (model, untouched))), "SVMs move"
    accuracy, rejection = right_and_rejected(made, model)
    assert accuracy > 0.8 and rejection < 0.15
    monkeypatch.setattr(Fitted, "build", None)  # not again
    again = fitted(context, variant).fresh()
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True))


@pytest.mark.long
def test_whole_table(context, monkeypatch):
    variants = (PLAIN, CONFIDENT, WIDE)
    monkeypatch.setattr(trained, "VARIANTS", variants)
    # Each search is compiled for every model; the others are tested with the suites.
    monkeypatch.setattr(suites, "get", lambda name: suites.Suite(name, FEW))
    monkeypatch.setattr(measure, "STEP_SIZES", (1.0, 30.0))
    monkeypatch.setattr(measure._Search, "substitute", None)
    common = {"dataset": "digits", "quick": True, "samples": 12, "data_dir": None, "output": None}
    path = runner.execute("dnr_trained", trained, **common, steps=4, epochs=1, fitted=300)
    of = Results.load(path)
    for variant in variants:
        assert of(table=rows.VARIANTS, metric="accuracy", epsilon=None, **variant.fields) > 0.85
        assert of(metric="robust accuracy", starts="all", epsilon=4, **variant.fields) < 0.2
    assert {(metric, perturbation) for metric, perturbation, *_ in kinds(of, "DNR") - kinds(of, "no defense")} == {
        ("rejection rate", ""),
        *(("false-positive rate", perturbation) for perturbation in ("", "direction", "dim", "shift")),
    }, "a plain network rejects nothing"
    for name, table in tables.TABLES["dnr_trained"].items():
        assert len(table(of).splitlines()) == 2 + (2 if name == "benign" else 3), name
    assert (path.parent / "dnr_trained-digits" / "worst_case.png").exists()


def kinds(of, system):
    fields = ("metric", "perturbation", "table", "row", "attack", "norm", "starts", "knowledge")
    return {tuple(row.get(name) for name in fields) for row in of.all(system=system)}


def test_every_variant_watches_layers_that_are_there():
    from models.carlini import carlini_cnn
    from models.small import digits_cnn

    for dataset, build in (("mnist", carlini_cnn), ("digits", digits_cnn)):
        known, there = settings.LAYERS[dataset], {layer.name for layer in build().layers}
        assert all(set(layers) <= there for layers in known.values())
        assert {variant.layers for variant in trained.VARIANTS if variant.layers} == set(known)


def test_variants_are_kept_apart():
    for names in ([variant.name for variant in trained.VARIANTS], [str(variant.fields) for variant in trained.VARIANTS]):
        assert len(set(names)) == len(names)
    assert set(trained.DRAWN) <= set(trained.VARIANTS)
