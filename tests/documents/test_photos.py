"""What docs/photos.md shows, runs, with fewer photos."""

import re
from pathlib import Path

import pytest

import tfdefense as td
from tfdefense.zoo import imagenet

PAGE = (Path(__file__).parents[2] / "docs" / "photos.md").read_text()


@pytest.mark.long
@pytest.mark.skipif(not imagenet.available(), reason=f"the weights are not installed: {imagenet.INSTALL}")
@pytest.mark.skipif(not td.data.available("imagenette_small"), reason="the set imagenette_small is not in $TFDEFENSE_DATA")
def test_the_tutorial(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.S))
    for split, limit in (("train", 90), ("test", 40)):
        code = code.replace(f'load("imagenette_small", "{split}")', f'load("imagenette_small", "{split}", limit={limit})')
    names = {}
    exec(code.replace("limit=50", "limit=10"), names)
    assert len(names["test"].y) == 40 and len(names["held_out"].y) < 40, "the page loads in another way: limit it here"
    assert td.evaluate(names["defended"], names["test"].x, names["test"].y).right.mean() > 0.6
    assert "rejected" in capsys.readouterr().out
    assert td.contract.class_names(td.load(tmp_path / "photos.keras"))[8] == "golf ball"
