import dataclasses
import hashlib
import json
import re
import shutil

import numpy as np
import pytest

import tfdefense as td
from evaluation.benchmarks.zoo import unpacked
from tfdefense import zoo

NAMES = zoo.list()


def test_the_zoo_is_not_empty_and_fits_into_a_repository():
    assert NAMES, "no card was shipped"
    sizes = [path.stat().st_size for path in zoo.CARDS.glob("*.keras")]
    assert max(sizes) <= 4 * 2**20 and sum(sizes) <= 40 * 2**20


def test_zoo_is_what_its_protocol_makes():
    from evaluation.benchmarks.zoo_entries import ENTRIES

    # One whose weights are still to be made has no card.
    assert set(NAMES) <= set(ENTRIES) and set(ENTRIES) - set(NAMES) <= set(zoo.MADE_BY_PROTOCOL)
    for name in NAMES:
        entry = ENTRIES[name]
        card = zoo.card(name)
        assert (card.recipe, card.data, card.summary, card.defense) == (entry.command, entry.dataset, entry.summary, entry.defense)
        assert "+" not in card.commit, "measured by code that nobody else has"


def test_a_model_that_is_not_made_yet_has_a_command(tmp_path):
    from evaluation.benchmarks.zoo_entries import ENTRIES

    without = {name: entry.dataset for name, entry in ENTRIES.items() if name not in NAMES}
    assert without.items() <= zoo.MADE_BY_PROTOCOL.items() and set(zoo.MADE_BY_PROTOCOL) <= set(ENTRIES)
    for name, dataset in zoo.MADE_BY_PROTOCOL.items():
        make = f"python -m evaluation zoo --dataset {dataset} --only {name} --fit"
        for ask in (zoo.load, zoo.available, zoo.class_names):
            with pytest.raises(ValueError, match=f"`{make}`"):
                ask(name, cards=tmp_path)
    with pytest.raises(ValueError, match="Did you mean `imagenette_lite0.dustbin`"):
        zoo.load("imagenette_lite0.dustbn", cards=tmp_path)


def test_every_system_of_the_papers_has_a_model_of_mnist():
    found = {name.split(".")[1] for name in NAMES if zoo.card(name).data == "mnist"}
    assert found >= {"dnr", "rce", "safetynet", "dustbin", "detector"}


@pytest.mark.parametrize("name", NAMES)
def test_model_gives_its_golden_outputs(name):
    if not zoo.available(name):
        pytest.skip(f"the weights of {name} are not installed: {zoo.imagenet.INSTALL}")
    card, model = zoo.card(name), td.zoo.load(name)
    assert td.contract.is_defended(model) and td.contract.unready(model) is None
    assert td.contract.bounds_of(model) == tuple(card.bounds)
    outputs = model(zoo.probe(model.input_shape[1:], card.bounds))
    for key, golden in card.golden.items():
        np.testing.assert_allclose(np.asarray(outputs[key]), golden, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_card_says_what_was_measured(name):
    card = zoo.card(name)
    assert card.name == name and card.commit not in ("", "unknown") and card.licence
    assert 0.5 < card.clean["accuracy"] <= 1 and 0 <= card.clean["false_positive_rate"] < 0.2
    for row in card.attacked:
        assert {"suite", "steps", "norm", "epsilon", "robust_accuracy", "n"} < set(row)
        assert row["suite"] in td.attacks.suites.names() and row["passes"] > 0
        assert sum(row["broken_by"].values()) + row["robust_accuracy"] == pytest.approx(1)
        assert unpacked(row["withstood"], row["n"]).mean() == pytest.approx(row["robust_accuracy"])


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("digits")])
def test_model_does_on_the_test_samples_what_the_card_says(name, held_out):
    card, found = zoo.card(name), td.evaluate(td.zoo.load(name), held_out.x, held_out.y)
    assert found.accuracy == pytest.approx(card.clean["accuracy"], abs=0.01)
    assert found.rejection == pytest.approx(card.clean["false_positive_rate"], abs=0.01)


@pytest.fixture
def copied(tmp_path):
    for suffix in ("json", "keras"):
        shutil.copy(zoo.CARDS / f"{NAMES[0]}.{suffix}", tmp_path)
    return tmp_path


def test_damaged_weights_are_not_loaded(copied):
    path = copied / f"{NAMES[0]}.keras"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is damaged or was changed: install tfdefense anew"):
        zoo.load(NAMES[0], cards=copied)
    path.unlink()
    with pytest.raises(ValueError, match="They are missing: install tfdefense anew"):
        zoo.load(NAMES[0], cards=copied)


def test_card_without_weights_says_how_to_make_them(copied):
    card = dataclasses.asdict(zoo.card(NAMES[0])) | {"file": None}
    (copied / f"{NAMES[0]}.json").write_text(json.dumps(card))
    command = f"python -m evaluation zoo --dataset {card['data']} --only {NAMES[0]}"
    with pytest.raises(ValueError, match=f"Make them in a clone: `{command}`"):
        zoo.load(NAMES[0], cards=copied)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match=f"Did you mean `{re.escape(NAMES[0])}`?"):
        zoo.load(NAMES[0][:-1])


def test_command_line_lists_shows_and_writes(tmp_path, capsys):
    from typer.testing import CliRunner

    from tfdefense.cli import app

    runner = CliRunner()
    listed = runner.invoke(app, ["zoo"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0 and all(name in listed.output for name in NAMES)
    shown = runner.invoke(app, ["zoo", NAMES[0]], env={"COLUMNS": "200"})
    assert zoo.card(NAMES[0]).sha256 in shown.output and "robust accuracy" in shown.output
    path = tmp_path / "model.keras"
    assert runner.invoke(app, ["zoo", NAMES[0], "--output", str(path)]).exit_code == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == zoo.card(NAMES[0]).sha256
    assert td.contract.unready(td.load(path)) is None
    assert runner.invoke(app, ["zoo", "--output", str(path)]).exit_code != 0
