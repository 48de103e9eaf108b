"""The picture of `td.compare`, and risk-coverage curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfdefense._validation import PathLike
from tfdefense.plots import canvas
from tfdefense.plots.drawings import PALETTE, RIGHT, named_items, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfdefense.comparison import Comparison
    from tfdefense.metrics import RiskCoverage


def risk_coverage(curves: Mapping[str, RiskCoverage], path: PathLike | None = None) -> Figure:
    """Risk-coverage curves: how many of the accepted samples are wrong, against the share accepted. In the legend the area, AURC.

    Args:
        curves: Dict from a name to a `td.metrics.RiskCoverage`.
        path: Where to save the figure.

    Example:

    >>> curve = td.metrics.risk_coverage([1.0, 2.0, 3.0, 4.0], [False, False, True, True])
    >>> len(risk_coverage({"energy": curve}).axes)
    1
    """
    named_items(curves, "curves", "RiskCoverage")
    with canvas.figure((4.2, 3.2), path) as figure:
        axes = canvas.axes(figure, "share accepted", "of these wrong")
        width = max(len(str(name)) for name in curves)
        for curve, colour, style, name in styled(curves):
            label = f"{name:<{width}}  {curve.aurc:.4f}"
            axes.plot(curve.coverage, curve.risk, color=colour, linestyle=style["linestyle"], label=label)
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        canvas.legend_above(axes, title="area under the curve", prop={"family": "monospace", "size": 7.5}, alignment="left")
        return figure


def comparison(found: Comparison, path: PathLike | None = None) -> Figure:
    """One panel a question, one line a candidate: shares with their 95 % intervals; the winner is orange.

    Args:
        found: What `td.compare` gave.
        path: Where to save the figure.

    Example:

    >>> found = td.compare(model, ["confidence"], (x_held_out, y_held_out), ood=1 - x_held_out, attack=None)
    >>> figure = comparison(found)
    """
    rows = found.rows
    panels = [("right", "right"), ("rejected", "clean rejected"), *((name, f"{name} rejected") for name in rows[0].ood)]
    if any(row.robust_accuracy is not None for row in rows):
        panels.append(("robust_accuracy", "robust accuracy"))
    with canvas.figure((1.6 + 1.5 * len(panels), 0.9 + 0.27 * len(rows)), path) as figure:
        for axes, (key, title) in zip(np.atleast_1d(figure.subplots(1, len(panels), sharey=True)), panels, strict=True):
            for place, row in enumerate(rows):
                share = row.ood[key] if key in row.ood else getattr(row, key)
                if share is None:
                    continue
                colour = PALETTE[1] if row.name == found.chosen else RIGHT
                low, high = row.interval(key) or (share, share)
                axes.plot([low, high], [place, place], color=colour, linewidth=1.4)
                axes.plot([share], [place], "o", color=colour, markersize=4.5)
            axes.set_title(title, fontsize=8.5)
            axes.set_xlim(-0.03, 1.03)
            axes.set_xticks([0, 0.5, 1])
            axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
            axes.set_yticks(range(len(rows)), [row.name for row in rows])
            axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        return figure
