"""What tests of whole protocols share."""

from pathlib import Path

import pytest


@pytest.fixture
def drawn(monkeypatch):
    """`drawn()`: from there on pictures are empty files. A second run over the parts of a first one need not draw them again."""
    import matplotlib.figure

    return lambda: monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda _, path, **__: Path(path).touch())
