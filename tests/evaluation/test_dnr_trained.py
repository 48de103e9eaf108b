import dataclasses
import json

import numpy as np
import pytest

from evaluation import __main__ as runner
from evaluation.papers.dnr import protocol as dnr
from evaluation.papers.dnr import trained as dnr_trained
from evaluation.runner import results
from evaluation.runner.context import Context
from tfdefense.layers import RBFSVM

PLAN = dataclasses.replace(dnr.PLANS["digits"], layers=("features", "scores"), fitted=300, calibrated=300)
VARIANTS = (
    ("plain", "none", "plain", {}),
    ("confident", "confidence", "robust", {"of": "plain"}),
    ("wide", "DNR", "plain", {"gamma": "0.25*scale"}),
    ("early", "DNR", "plain", {"layers": "one more"}),
    ("tuned", "DNR", "plain", {"tune": "all", "attacked": True}),
    ("machines", "DNR", "plain", {"tune": "machines", "attacked": False}),
    ("untouched", "DNR", "plain", {"tune": "nothing"}),
    ("trained on", "none", "plain", {"tune": "all", "attacked": True}),
)


@pytest.fixture
def context(classifier, tmp_path, monkeypatch):
    for name in ("plain", "robust"):
        (tmp_path / name).mkdir()
        classifier.save(tmp_path / name / "model.keras")
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(
        Context, "network", lambda self, name, **_: tmp_path / ("robust" if "pgd" in name else "plain") / "model.keras"
    )
    monkeypatch.setitem(dnr.PLANS, "digits", PLAN)
    monkeypatch.setitem(dnr_trained.SIZES, "digits", (0, 0.5, 4))
    monkeypatch.setitem(dnr_trained.LAYERS, "digits", {"one more": ("conv_1", "scores")})
    return Context("dnr_trained", "digits", True, 12, None, tmp_path / "runs", tmp_path / "parts")


def variant(context, name):
    row = next(row for row in VARIANTS if row[0] == name)
    networks = {kind: context.network("digits_pgd" if kind == "robust" else "digits") for kind in ("plain", "robust")}
    return dnr_trained.Variant(row, networks, 1, PLAN, context, 0, 12, 300, 0)


def machines_of(model):
    return [layer for layer in model.layers if isinstance(layer, RBFSVM)]


def test_a_network_without_machines_is_trained_on_too(context):
    made = variant(context, "trained on")
    before = made.plain.get_layer("features").kernel.numpy().copy()
    model = made.model()[0]
    assert not np.array_equal(model.get_layer("features").kernel.numpy(), before) and made.clean()["accuracy"] > 0.8


def test_settings_of_a_row_reach_the_machines(context):
    wide, early = (machines_of(variant(context, name).model()[0]) for name in ("wide", "early"))
    assert [layer.gamma for layer in wide] == ["0.25*scale"] * 3
    assert [layer.features for layer in early] == [4 * 4 * 32, 10, 20]


@pytest.mark.parametrize(("name", "network_moves"), [("tuned", True), ("machines", False)])
def test_training_end_to_end_moves_what_the_row_says(context, name, network_moves):
    made = variant(context, name)
    fitted = made.plain.get_layer("features").kernel.numpy().copy()
    model = made.model()[0]
    assert all(layer.vectors <= 500 and layer.adapted for layer in model.layers if isinstance(layer, RBFSVM))
    assert (not np.array_equal(model.get_layer("features").kernel.numpy(), fitted)) == network_moves
    untouched = variant(context, "untouched").model()[0]
    assert not np.array_equal(*(machines_of(each)[0].references.numpy() for each in (model, untouched))), "machines move"
    clean = made.clean()
    assert clean["accuracy"] > 0.8 and clean["rejection"] < 0.15
    again = variant(context, name).model()[0]
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), again.get_weights(), strict=True)), "trained twice"


def test_whole_table(context, monkeypatch):
    monkeypatch.setattr(dnr_trained, "VARIANTS", VARIANTS[:3])
    common = {"dataset": "digits", "quick": True, "samples": 12, "data_dir": None, "output": None}
    path = runner.execute("dnr_trained", dnr_trained, **common, steps=4, epochs=1, fitted=300)
    content = json.loads(path.read_text())
    results.check(content, path.name)
    rows = {row["what"]: row["ours"] for row in content["rows"]}
    # Plain networks reject nothing; two sizes and a share without gradient under two attacks each.
    # And three harmless changes for those that reject.
    assert len(rows) == (1 + 5 + 5) + 3 * 3 * 2
    for name in ("plain", "confident", "wide"):
        assert rows[f"{name}: clean accuracy"] > 0.85
        assert rows[f"{name}: not fooled at l2 4, strongest of all starts"] < 0.2
    assert "plain: clean rejection" not in rows
    assert (path.parent / "dnr_trained-digits" / "strongest.png").exists()


def test_every_row_watches_layers_that_are_there():
    from models.carlini import carlini_cnn
    from models.small import digits_cnn

    for dataset, build in (("mnist", carlini_cnn), ("digits", digits_cnn)):
        known, there = dnr_trained.LAYERS[dataset], {layer.name for layer in build().layers}
        assert all(set(layers) <= there for layers in known.values())
        assert {row[3]["layers"] for row in dnr_trained.VARIANTS if "layers" in row[3]} == set(known)


def test_rows_of_the_table_are_told_apart():
    names = [name for name, *_ in dnr_trained.VARIANTS]
    assert len(set(names)) == len(names)
