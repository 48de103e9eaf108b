"""Figures of the papers, ready to print: each function returns a `matplotlib.figure.Figure`, and saves it given a path.

Nothing here touches pyplot, so that it works in threads, servers and notebooks alike.
"""

from tfdefense.plots.canvas import FAINT, INK
from tfdefense.plots.comparisons import comparison, risk_coverage
from tfdefense.plots.drawings import (
    MARKERS,
    PALETTE,
    REJECTED,
    RIGHT,
    WRONG,
    detectability,
    distortion,
    embedding,
    examples,
    matrix,
    outcome_bars,
    roc,
    security_curve,
)
from tfdefense.plots.monitoring import monitor

__all__ = [
    "FAINT",
    "INK",
    "MARKERS",
    "PALETTE",
    "REJECTED",
    "RIGHT",
    "WRONG",
    "comparison",
    "detectability",
    "distortion",
    "embedding",
    "examples",
    "matrix",
    "monitor",
    "outcome_bars",
    "risk_coverage",
    "roc",
    "security_curve",
]
