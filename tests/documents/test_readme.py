"""The README is short, and what it shows runs."""

import re
from pathlib import Path

import numpy as np

import tfdefense as td

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LINES = 130


def test_it_is_short():
    assert len(README.splitlines()) <= LINES, "move what is long to docs/"
    for table in re.findall(r"<!-- begin .*?-->\n(.*?)<!-- end -->", README, re.S):
        assert len(table.splitlines()) <= 2 + 5, "a table of the README has five rows: what was found, and the rest on its page"


def test_the_three_lines_on_pixels_from_0_to_255(classifier, held_out):
    import keras

    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    code, replaced = re.subn(r"^model = .*", "", code, flags=re.M)
    assert replaced == 1, "the README builds its model in another way"
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, classifier(keras.layers.Rescaling(1 / 255)(image)))
    noise = np.random.default_rng(0).uniform(0, 255, (50, 8, 8, 1)).astype("float32")
    names = {"model": model, "x_held_out": 255 * held_out.x, "x": noise}
    exec(code, names)
    answer = names["answer"].numpy()
    assert (answer == -1).any() and (answer >= 0).any(), "the bounds are those of the pixels"
    assert (names["defended"](255 * held_out.x)["label"].numpy() == -1).mean() <= 0.05


def test_every_defense_has_a_row():
    named = set(re.findall(r"`([A-Z]\w+)", README.split("## Defenses")[1].split("## Command line")[0]))
    from tfdefense.defenses import Defense

    public = {name for name in td.__all__ if isinstance(kind := getattr(td, name), type) and issubclass(kind, Defense)}
    assert named == public - {"NeuralRejection"}, "`NeuralRejection` is on the page of `DeepNeuralRejection`"
