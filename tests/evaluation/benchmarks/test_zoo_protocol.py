import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks import tables, zoo
from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.zoo_entries import attach
from evaluation.runner import command, results
from evaluation.runner.context import Context
from evaluation.runner.rows import Results
from tfdefense import zoo as shipped

OTHERS = td.data.load("digits", "test").x[:200]


@pytest.fixture(scope="module")
def places(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    classifier.save(folder / "model.keras")
    entry = dataclasses.replace(
        zoo.ENTRIES["digits_cnn.dnr"],
        make=attach("DeepNeuralRejection", ["features", "scores"]),
        fitted=400,
        fitting=Fitting(vectors=50),
        suite="quick-1",  # the longer one has its own tests
        # What is no number is always rejected; most digits are not.
        ood=lambda context: {"no numbers": np.full((3, 8, 8, 1), np.nan, "float32"), "known": OTHERS},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "UNTRACKED", folder / "runs")
        patch.setattr(results, "commit", lambda: "abc")
        patch.setattr(Context, "network", lambda self, name, **options: folder / "model.keras")
        patch.setattr(Context, "forget_parts", lambda self: None)  # what is measured once is enough for all
        patch.setattr(zoo, "ENTRIES", {"small.dnr": entry})
        yield folder


def execute(**options):
    common = {"dataset": "digits", "quick": True, "samples": 12, "data_dir": None, "output": None}
    return command.execute("zoo", zoo, **common, only=None, steps=4, **options)


@pytest.fixture(scope="module")
def written(places):
    """What a run tells, and a copy of the cards that it wrote."""
    content = json.loads(execute().read_text())
    return content, Path(shutil.copytree(places / "runs" / "zoo", places / "cards"))


def test_what_is_written_is_what_loads(written, held_out):
    content, cards = written
    card = shipped.card("small.dnr", cards=cards)
    assert card.commit == "abc" and card.recipe == "python -m training digits --train-samples 1100" and card.bytes < 2**20
    of = Results(content)
    assert of(system="small.dnr", metric="accuracy") == pytest.approx(card.clean["accuracy"], abs=1e-5)
    assert [row["epsilon"] for row in card.attacked] == [0.1, 0.2, 0.5, 1.0]
    alone = td.attacks.PGD(0.2, steps=4, objective=td.attacks.LogSumExp(), starts="all")
    x, y = held_out.x[:12], held_out.y[:12]
    fooled = td.evaluate(shipped.load("small.dnr", cards=cards), alone(td.zoo.load("small.dnr", cards=cards), x, y), y).error
    assert 1 - fooled >= card.attacked[1]["robust_accuracy"], "one attack finds no more than the worst case over several"
    outputs = shipped.load("small.dnr", cards=cards)(shipped.probe((8, 8, 1)))
    np.testing.assert_allclose(np.asarray(outputs["suspicion"]), card.golden["suspicion"], atol=1e-4)


def test_share_of_each_ood_set_is_told(written):
    content, cards = written
    card, of = shipped.card("small.dnr", cards=cards), Results(content)
    rejected = (td.view.decide(shipped.load("small.dnr", cards=cards), OTHERS).label == -1).mean()
    assert card.ood == {"no numbers": {"rejected": 1.0, "n": 3}, "known": {"rejected": rejected, "n": 200}}
    assert 0 < rejected < 0.5
    low, high = of.one(metric="rejection rate", ood="no numbers").interval
    assert 0.3 < low < 0.5 and high == 1
    assert "| small.dnr | 100 % [44, 100] |" in tables.zoo_ood(of)


def test_cards_are_told_without_measuring(written, monkeypatch):
    for name in ("build", "attacked"):
        monkeypatch.setattr(zoo, name, lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(Context, "_parts", lambda *_: pytest.fail("looked for a part"))
    again = json.loads(execute(measure=False).read_text())
    assert again["rows"] == written[0]["rows"] and "measured at commit abc" in again["rows"][0]["note"]


def test_large_weights_stay_out_and_the_card_says_how_to_make_them(places, monkeypatch):
    monkeypatch.setattr(zoo, "LIMIT", 1000)
    execute()
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
