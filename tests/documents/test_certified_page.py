"""The examples of docs/certified.md run."""

import re
from pathlib import Path

import keras
import numpy as np

import tfdefense as td

PAGE = (Path(__file__).parents[2] / "docs" / "certified.md").read_text()


def test_the_examples_run(classifier, digits, held_out):
    model = keras.models.clone_model(classifier)
    model.set_weights(classifier.get_weights())
    letters = td.data.load("letters8", limit=60)
    names = {"td": td, "model": model, "x_train": digits.x[:64], "y_train": digits.y[:64], "x_held_out": held_out.x[:100]}
    names |= {"x": held_out.x[:5], "y": held_out.y[:5], "x_ood": letters.x[30:]}
    names |= {"x_both": np.concatenate([digits.x[:60], letters.x]), "is_in": np.repeat([1, 0], 60)}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    assert len(blocks) == 3
    # The last one is what the docstrings of both trainers run.
    for block in blocks[:2]:
        exec(block, names)
    compile(blocks[2], "certified.md", "exec")
    assert names["found"].accuracy() > 0.5 and 0 <= names["proved"].rejected <= 1
