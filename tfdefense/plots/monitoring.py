"""What a monitor has seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from tfdefense._validation import PathLike
from tfdefense.plots import canvas
from tfdefense.plots.canvas import FAINT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfdefense.monitoring import Monitor

_LINE, _ALARM = "#0072B2", "#D55E00"


def monitor(watching: Monitor, path: PathLike | None = None) -> Figure:
    """The rejection rate with its interval above, the evidence of a drift below, both against the samples seen.

    Args:
        watching: A `td.Monitor` that has seen some.
        path: Where to save the figure.

    Example:

    >>> watching = td.Monitor(td.monitoring.reference(defended, x_held_out[:300]))
    >>> status = watching.update(defended(x_held_out[300:])["suspicion"])
    >>> figure = monitor(watching)
    """
    if not watching.history:
        raise ValueError("Expected a monitor that has seen samples. Received a new one: call `update` first.")
    samples, rate, low, high, evidence = np.array(watching.history).T
    with canvas.figure((4.8, 3.6), path) as figure:
        above, below = figure.subplots(2, sharex=True)
        above.fill_between(samples, low, high, color=_LINE, alpha=0.15, linewidth=0)
        above.plot(samples, rate, color=_LINE, label="rejected")
        above.axhline(watching.expected, color=FAINT, linestyle=(0, (4, 2)), linewidth=1.2, label="highest without a drift")
        above.set_ylim(0, min(1.0, 1.4 * max(rate.max(), watching.expected, high[len(high) // 2 :].max())))
        above.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
        above.set_ylabel("share of samples")
        below.plot(samples, evidence, color=_LINE, label="evidence of a drift")
        below.axhline(math.log10(2 / watching.alpha), color=_ALARM, linestyle=(0, (4, 2)), linewidth=1.2, label="alarm")
        below.set_ylabel("powers of ten")
        below.set_xlabel("samples seen")
        for axes in (above, below):
            canvas.legend_above(axes)
        return figure
