"""What the figures of `tfdefense.plots` are drawn with: their style, axes, lines and legends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdefense._files import write_file
from tfdefense._validation import PathLike

if TYPE_CHECKING:
    from matplotlib.figure import Figure


INK = "#222222"
FAINT = "#8A8F94"


@contextlib.contextmanager
def figure(size: tuple[float, float], path: PathLike | None) -> Iterator[Figure]:
    """A figure in the style of `tfdefense.plots`, saved at the end. The reader's own settings of matplotlib come back after."""
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {
        "font.size": 8.5,
        "axes.labelsize": 8.5,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#E8EAEC",
        "grid.linewidth": 0.6,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "lines.linewidth": 1.6,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "pdf.fonttype": 42,  # text that an editor can search and change
        "svg.fonttype": "none",
        "savefig.dpi": 200,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=size, layout="constrained")
        yield figure
        if path is not None:
            path = Path(path) if Path(path).suffix else Path(f"{path}.png")
            write_file(path, lambda new: figure.savefig(new, bbox_inches="tight", pad_inches=0.04))


def axes(figure, xlabel, ylabel):
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    if ylabel:
        axes.set_ylabel(ylabel)
    return axes


def line(axes, x, y, deviation, *, color, **style):
    if "marker" in style:
        style |= {"markersize": 4.5, "markeredgecolor": "white", "markeredgewidth": 0.6, "clip_on": False, "zorder": 3}
    else:
        style |= {"linewidth": 1.2}
    axes.plot(x, y, color=color, **style)
    if np.any(deviation > 0):
        low, high = np.clip(y - deviation, 0, 1), np.clip(y + deviation, 0, 1)
        axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0)


def shares(axis, low=0.0, margin=0.02):
    """Ticks in percent; a little room above 1, so that a curve along the edge is seen."""
    axis.set_ticks([tick for tick in (0, 0.2, 0.4, 0.6, 0.8, 1) if tick >= low])
    axis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    axis.axes.set(**{f"{axis.axis_name}lim": (low - (margin if low == 0 else 0), 1 + margin)})


def legend_above(axes, handles=None, **style):
    handles = axes.get_legend_handles_labels()[0] if handles is None else handles
    place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderaxespad": 0.2, "columnspacing": 1.4}
    # A legend wider than the figure would squeeze the axes to nothing.
    lengths, space = [len(handle.get_label()) for handle in handles], axes.figure.get_figwidth() - 0.5
    rows = 1
    while sum(0.46 + 0.07 * max(lengths[i : i + rows]) for i in range(0, len(handles), rows)) > space:
        if rows == len(handles):
            break
        rows += 1
    # Nor may a high one.
    axes.figure.set_figheight(axes.figure.get_figheight() + 0.17 * max(0, rows - 2))
    axes.legend(handles=handles, ncols=-(-len(handles) // rows), **{"handlelength": 1.8} | place | style)
