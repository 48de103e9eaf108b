"""docs/consistency.md: its examples run, and its table has all options."""

import inspect
import re
from pathlib import Path

import tfdefense as td

PAGE = (Path(__file__).parents[2] / "docs" / "consistency.md").read_text()


def test_the_table_has_every_option():
    rows = re.findall(r"^\| `(\w+)` \|.*\|([^|]*)\|$", PAGE, re.M)
    assert [name for name, _ in rows] == ["ConsistencyRejection", "RadiusRejection"]
    for name, options in rows:
        assert re.findall(r"`(\w+)`", options) == list(inspect.signature(getattr(td, name)).parameters)


def test_the_examples_run(classifier, held_out):
    # Fewer steps than a user takes: the same code, in less time.
    names = {"td": td, "model": classifier, "x_fit": held_out.x[:60], "y_fit": held_out.y[:60]}
    names |= {"x_held_out": held_out.x[60:160], "x": held_out.x[200:206], "y": held_out.y[200:206]}
    first, second = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(first.replace('norm="l2"', 'norm="l2", steps=2'), names)
    assert (names["defended"](names["x_held_out"])["label"].numpy() == -1).mean() <= 0.05
    exec(second.replace("steps=20", "steps=4"), names)
    assert (names["rates"][1:] >= names["rates"][:-1]).all() and (names["errors"] >= 0).all() and "no record" in names["claim"]
