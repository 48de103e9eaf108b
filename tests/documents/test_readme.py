"""What the README shows, runs."""

import re
from pathlib import Path

import numpy as np

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)


def test_the_first_example(classifier, held_out):
    names = {"model": classifier, "x_held_out": held_out.x, "x": np.random.default_rng(0).uniform(size=(50, 8, 8, 1))}
    exec(BLOCKS[0].replace("defended(x)", "found = defended(x)"), names)
    found = names["found"].numpy()
    assert (found == -1).any() and (names["defended"](held_out.x)["label"].numpy() == -1).mean() <= 0.05


def test_the_whole_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(BLOCKS[1], names)
    assert len([line for line in BLOCKS[1].splitlines() if line.strip()]) <= 24
    kept = names["out"]["label"].numpy() >= 0
    assert (names["out"]["label"].numpy()[kept] == names["test"].y[kept]).mean() > 0.9
    assert (tmp_path / "serving/1/saved_model.pb").exists() and (tmp_path / "defended.keras").exists()
    assert "rejected" in capsys.readouterr().out
    exec(BLOCKS[2], names)
    exec(BLOCKS[3], names)
    assert (names["defended"](names["held_out"].x)["label"].numpy() == -1).mean() <= 0.05
    exec(BLOCKS[4], names)
    open_box = names["open_box"]
    np.testing.assert_array_equal(open_box.label, names["coded"](open_box.x_adv)["label"], "judged by the surrogate")
    assert names["black_box"].success.any()


def test_the_examples_of_training():
    names = {}
    exec(BLOCKS[1].split("model.compile")[0], names)
    exec(BLOCKS[5], names)
    right = names["dense"](names["held_out"].x)["scores"].numpy().argmax(-1) == names["held_out"].y
    assert right.mean() > 0.9 and len(names["white_box"]) == 10
    exec(BLOCKS[6], names)
    found = names["rejecting"](names["held_out"].x)
    assert (found["label"].numpy() == -1).mean() <= 0.05 and (found["label"].numpy() == names["held_out"].y).mean() > 0.88
    names["model"].add(names["keras"].layers.Dense(10, activation="softmax"))
    exec(BLOCKS[7], names)
    robust = [row["robust_accuracy"] for row in names["attacked"] if row["norm"] == "linf"]
    assert len(robust) > 1 and robust == sorted(robust, reverse=True) and names["td"].contract.is_defended(names["ready"])


def test_every_attack_and_defense_named_is_there():
    import tfdefense as td

    section = README.split("## Attacks")[1].split("## Command line")[0]
    for name in re.findall(r"`([A-Z][A-Za-z]+)(?:[(\[`])", section):
        assert hasattr(td.attacks, name), name
    for line in README.split("## Defenses")[1].split("## Attacks")[0].splitlines():
        for name in re.findall(r"`([A-Z][A-Za-z]+)[(`:]", line):
            assert hasattr(td, name) or hasattr(td.attacks, name), name
