"""The dustbin with more out-of-distribution images."""
# ruff: noqa: F811 - fixtures of another file

import json

import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.dustbin import goals, ood, tables
from evaluation.papers.dustbin.settings import BOTH, MORE_OOD, NAIVE, WIDE
from evaluation.runner import results
from evaluation.runner.rows import Results
from tests.evaluation.papers.test_dustbin import context, found  # noqa: F401 - one is a fixture


def test_more_ood_images_are_judged_on_images_that_no_dustbin_has(context, classifier, dustbin, tmp_path):
    paths = {}
    for name, model, parts in (
        ("naive", classifier, []),
        ("both", dustbin, ["letters8"]),
        ("more", dustbin, ["letters8", "textures8"]),
    ):
        paths[name] = tmp_path / name / "model.keras"
        paths[name].parent.mkdir()
        model.save(paths[name])
        config = {"train_samples": 1000, "dustbin": [{"set": part} for part in parts], "dustbin_samples": 300 * len(parts)}
        (paths[name].parent / "config.json").write_text(json.dumps(config))

    def network(recipe, **settings):
        sources = [part.get("set") for part in settings.get("dustbin", [])]
        return paths["more" if "textures8" in sources else "naive" if recipe == "digits" else "both"]

    context.protocol, context.network = "dustbin_ood", network
    ood.run(context)
    of = Results.load(results.write(context, 1.0, tmp_path))
    for one in (BOTH, MORE_OOD):
        for name in ("letters8", "textures8"):
            row = of.one(table=ood.TABLE, ood=name, **one.fields())
            x = td.data.load(name, "test").x
            assert row.value == np.mean(td.view.decide(td.DustbinDefense().attach(dustbin), x).label == -1) and row.n == len(x)
            assert row.interval[0] <= row.value <= row.interval[1]
    assert (
        of(counted="dustbin samples", **MORE_OOD.fields()) == 600
        and "textures8" in of.one(counted="dustbin samples", detector=MORE_OOD.detector).note
    )
    seen = of.values("source in dustbin", ood="textures8")
    assert set(seen) == {"no", "yes, other images"}
    assert of(table=ood.TABLE, metric="accuracy", **NAIVE.fields()) > 0.9 and not of.all(detector="", metric="rejection rate")
    assert f"| {MORE_OOD.detector} | 600" in tables.TABLES["dustbin_ood"]["dustbin"](of)
    assert "| textures8 | rejection rate |" in tables.TABLES["dustbin_ood"]["rejected"](of)


def test_goal_of_more_ood_images_takes_the_network_that_rejects_more(context):
    for network, rejected, accuracy in ((BOTH, 0.6, 0.82), (MORE_OOD, 0.7, 0.83), (WIDE, 0.9, 0.815)):
        context.row(ood.TABLE, "rejection rate", rejected, ood="cifar100_out_small", **network.fields())
        context.row(ood.TABLE, "accuracy", accuracy, **network.fields())
    measured = [goal.measured(found(context)) for goal in goals.GOALS["dustbin_ood", "cifar10"]]
    assert measured == [0.9, pytest.approx(-0.005), 0.6, 0.7, 0.9]
