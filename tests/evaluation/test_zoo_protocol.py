import dataclasses
import json

import numpy as np
import pytest

import tfdefense as td
from evaluation import __main__ as runner
from evaluation import results, zoo
from evaluation.context import Context
from evaluation.fitting import Fitting
from tfdefense import zoo as shipped


@pytest.fixture
def places(classifier, tmp_path, monkeypatch):
    classifier.save(tmp_path / "model.keras")
    monkeypatch.setattr(results, "UNTRACKED", tmp_path / "runs")
    monkeypatch.setattr(results, "commit", lambda: "abc")
    monkeypatch.setattr(Context, "network", lambda self, name, **options: tmp_path / "model.keras")
    entry = dataclasses.replace(
        zoo.ENTRIES["digits_cnn.dnr"],
        make=zoo._attach("DeepNeuralRejection", ["features", "scores"]),
        fitted=400,
        fitting=Fitting(vectors=50),
    )
    monkeypatch.setattr(zoo, "ENTRIES", {"small.dnr": entry})
    return tmp_path


def execute(samples=12, steps=4, **options):
    common = {"dataset": "digits", "quick": True, "samples": samples, "data_dir": None, "output": None}
    return runner.execute("zoo", zoo, **common, only=None, steps=steps, **options)


def test_what_is_written_is_what_loads(places, held_out):
    content = json.loads(execute().read_text())
    cards = places / "runs" / "zoo"
    card = shipped.card("small.dnr", cards=cards)
    assert card.commit == "abc" and card.recipe == "python -m training digits --train-samples 1100" and card.bytes < 2**20
    rows = {row["what"]: row["ours"] for row in content["rows"]}
    assert rows["small.dnr: clean accuracy"] == pytest.approx(card.clean["accuracy"], abs=1e-5)
    assert [row["size"] for row in card.attacked] == [0.1, 0.2, 0.5, 1.0]
    alone = td.attacks.PGD(0.2, steps=4, objective=td.attacks.LogSumExp(), starts="all")
    x, y = held_out.x[:12], held_out.y[:12]
    fooled = td.evaluate(shipped.load("small.dnr", cards=cards), alone(td.zoo.load("small.dnr", cards=cards), x, y), y).error
    assert 1 - fooled >= card.attacked[1]["not_fooled"], "one attack finds no more than the strongest of several"
    outputs = shipped.load("small.dnr", cards=cards)(shipped.probe((8, 8, 1)))
    np.testing.assert_allclose(np.asarray(outputs["suspicion"]), card.golden["suspicion"], atol=1e-4)


def test_cards_are_told_without_measuring(places, monkeypatch):
    monkeypatch.setitem(zoo.SIZES, "digits", {"l2": (0.5,)})
    first = json.loads(execute(samples=2, steps=1).read_text())
    monkeypatch.setattr(zoo, "build", lambda *_: pytest.fail("built again"))
    again = json.loads(execute(samples=2, steps=1, measure=False).read_text())
    assert again["rows"] == first["rows"] and "measured at commit abc" in again["rows"][0]["note"]


def test_large_weights_stay_out_and_the_card_says_how_to_make_them(places, monkeypatch):
    monkeypatch.setattr(zoo, "LIMIT", 1000)
    monkeypatch.setitem(zoo.SIZES, "digits", {"l2": (0.5,)})
    execute(samples=2, steps=1)
    cards = places / "runs" / "zoo"
    with pytest.raises(ValueError, match="Make them in a clone: `python -m evaluation zoo --dataset digits --only small.dnr`"):
        shipped.load("small.dnr", cards=cards)
    made = td.load(places / "runs" / "zoo" / "small.dnr.keras")
    golden = shipped.card("small.dnr", cards=cards).golden
    np.testing.assert_allclose(np.asarray(made(shipped.probe((8, 8, 1)))["scores"]), golden["scores"], atol=1e-4)


def test_unknown_model_is_told(places):
    context = Context("zoo", "digits", True, None, None, places, places)
    with pytest.raises(ValueError, match="`--only` must be one of small.dnr on digits. Received 'other'"):
        zoo.run(context, only="other", steps=None)
