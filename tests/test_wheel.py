"""What `pip install` brings works outside the clone, and brings nothing with a rude name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_installed_library_stands_alone(tmp_path):
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(ROOT)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    brought = {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")} - {"bin"}
    assert brought == {"tfdefense"}

    def files(root):
        kinds = (".py", ".html", ".css", ".js", ".typed", ".txt")
        return {path.relative_to(root) for path in (root / "tfdefense").rglob("*") if path.suffix in kinds}

    assert files(ROOT) == files(target)
    words = target / "tfdefense" / "reporting" / "template" / "glossary.md"
    assert words.read_text() == (ROOT / "docs" / "glossary.md").read_text(), "reports of a wheel have no words to explain"
    assert Path("tfdefense/py.typed") in files(target), "type checkers read the annotations of no package without it"
    code = (
        "import tfdefense as td, keras, numpy as np; print(td.__file__);"
        "m = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]);"
        "d = td.ThresholdDefense(threshold=9.0).attach(m); print('label', *d(np.full((1, 4), np.nan))['label'].numpy())"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    assert str(target) in run.stdout and "label -1" in run.stdout
