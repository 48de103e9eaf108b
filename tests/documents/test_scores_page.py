"""docs/scores.md names every score with all its options, and its examples run."""

import inspect
import re
from pathlib import Path

import numpy as np

import tfdefense as td

PAGE = (Path(__file__).parents[2] / "docs" / "scores.md").read_text()


def test_the_table_has_every_score_with_its_options():
    rows = dict(re.findall(r"^\| `([\w-]+)` \|([^|]*)\|", PAGE, re.M))
    for name, kind in td.layers.scores.POST_HOC.items():
        options = [each for each in inspect.signature(kind.__init__).parameters if each not in ("self", "kwargs", "forms")]
        assert re.findall(r"`(\w+)`", rows.pop(name)) == options, name
    assert not rows


def test_the_examples_run(classifier, digits, held_out):
    letters = td.data.load("letters8", limit=100)
    names = {"td": td, "model": classifier, "x_train": digits.x[:600], "y_train": digits.y[:600]}
    names |= {"x_held_out": held_out.x[:100], "x_ood": letters.x}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.S):
        exec(block, names)
    assert list(names["memory"].values()) == [500 * 16 + 4 * (1 + 32 + 500 + 32 * 16)]
    assert set(names["auroc"]) == set(td.layers.scores.POST_HOC) and np.max(list(names["auroc"].values())) > 0.8
