"""One function a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import PathLike
from tfdefense.plots import canvas
from tfdefense.plots.canvas import FAINT, INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from tfdefense.metrics import Distortion, Outcomes, Roc, SecurityCurve


# Okabe and Ito's palette without its yellow, which is lost on white. All tell apart with any colour vision.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
RIGHT = "#0072B2"
REJECTED = "#B9C3CC"
WRONG = "#D55E00"


def security_curve(
    curves: Mapping[str, SecurityCurve],
    path: PathLike | None = None,
    *,
    xlabel: str = "size of the perturbation",
    rejection: bool = True,
) -> Figure:
    """Accuracy against the size of the perturbation, with deviation bands; rejection dashed.

    Args:
        curves: Dict from a name to a `SecurityCurve`.
        path: Where to save the figure.
        xlabel: Name of the sizes, such as "l2 size".
        rejection: Whether to draw the share of rejected samples too.

    Example:

    >>> clean, attacked = td.evaluate(model, x, y), td.evaluate(model, FGSM(0.2)(model, x, y), y)
    >>> curve = td.metrics.SecurityCurve.of([0, 0.2], [[clean, attacked]])
    >>> len(security_curve({"undefended": curve}, xlabel="linf size").axes)
    1
    """
    named_items(curves, "curves", "SecurityCurve")
    with canvas.figure((4.6, 3.3), path) as figure:
        axes = canvas.axes(figure, xlabel, "share of samples")
        for curve, colour, style, name in styled(curves):
            canvas.line(axes, curve.sizes, curve.accuracy, curve.deviation, color=colour, marker=style["marker"], label=name)
            if rejection and curve.rejections.any():
                canvas.line(axes, curve.sizes, curve.rejection, curve.rejection_deviation, color=colour, linestyle=(0, (4, 2)))
        axes.set_xlim(0, max(curve.sizes[-1] for curve in curves.values()))
        canvas.shares(axes.yaxis)
        handles, _ = axes.get_legend_handles_labels()
        if rejection and any(curve.rejections.any() for curve in curves.values()):
            from matplotlib.lines import Line2D

            handles += [Line2D([], [], color=FAINT, label="accuracy")]
            handles += [Line2D([], [], color=FAINT, linestyle=(0, (4, 2)), linewidth=1.2, label="rejection")]
        canvas.legend_above(axes, handles)
        return figure


def outcome_bars(outcomes: Mapping[str, Outcomes], path: PathLike | None = None) -> Figure:
    """Bars of right, rejected and wrong.

    Args:
        outcomes: Dict from a name to `Outcomes`, drawn from top to bottom.
        path: Where to save the figure.

    Example:

    >>> len(outcome_bars({"clean": td.evaluate(defended, x, y)}).axes)
    1
    """
    named_items(outcomes, "outcomes", "Outcomes")
    with canvas.figure((5.2, 0.8 + 0.34 * len(outcomes)), path) as figure:
        axes = canvas.axes(figure, "share of samples", None)
        rows, left = np.arange(len(outcomes)), np.zeros(len(outcomes))
        for kind, colour, ink in (("right", RIGHT, "white"), ("rejected", REJECTED, INK), ("wrong", WRONG, "white")):
            width = np.array([getattr(o, kind).mean() for o in outcomes.values()])
            axes.barh(rows, width, left=left, height=0.7, color=colour, edgecolor="white", linewidth=0.8, label=kind)
            for row, start, share in zip(rows, left, width, strict=True):
                if share >= 0.06:  # narrower bars hold no number
                    where = (start + share / 2, row)
                    axes.text(*where, f"{100 * share:.0f}", color=ink, ha="center", va="center", fontsize=7.5)
            left = left + width
        axes.set_yticks(rows, list(outcomes))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(False)
        axes.invert_yaxis()
        canvas.shares(axes.xaxis, margin=0)
        canvas.legend_above(axes, handlelength=0.9, handleheight=0.9)
        return figure


def roc(curves: Mapping[str, Roc], path: PathLike | None = None, *, log: bool = False) -> Figure:
    """ROC curves, with the area under each in the legend.

    Args:
        curves: Dict from a name to a `Roc`.
        path: Where to save the figure.
        log: Whether to spread out the low rates of false alarms.

    Example:

    >>> len(roc({"FGSM": td.metrics.roc([0.1, 0.4], [0.3, 0.9])}).axes)
    1
    """
    named_items(curves, "curves", "Roc")
    with canvas.figure((3.7, 3.5), path) as figure:
        axes = canvas.axes(figure, "clean samples rejected", "adversarial samples rejected")
        chance = np.linspace(0, 1, 1001)
        axes.plot(chance, chance, color=FAINT, linewidth=0.8, linestyle=":")
        width, font = max(len(str(name)) for name in curves), {"family": "monospace", "size": 7.5}
        for curve, colour, style, name in styled(curves):
            label, steps = f"{name:<{width}}  {curve.auc:.3f}", "steps-post" if log else "default"
            axes.plot(curve.fpr, curve.tpr, color=colour, linestyle=style["linestyle"], drawstyle=steps, label=label)
        canvas.shares(axes.yaxis)
        canvas.shares(axes.xaxis)
        if log:
            low = min(curve.fpr[curve.fpr > 0].min() for curve in curves.values())
            axes.set_xscale("log")
            axes.set_xlim(min(low, 0.1), 1)
            axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
            axes.xaxis.set_minor_formatter(lambda share, _: "")
            canvas.legend_above(axes, title="area under the curve", prop=font, alignment="left")
        else:
            axes.set_aspect("equal")
            axes.legend(loc="lower right", title="area under the curve", prop=font)
        axes.get_legend().get_title().set(fontsize=7.5, color=FAINT)
        return figure


def distortion(distortions: Mapping[str, Distortion], path: PathLike | None = None, *, rms: bool = False) -> Figure:
    """Success rate against the distance the attacker had to go.

    Args:
        distortions: Dict from a name to a `Distortion`, all in one norm.
        path: Where to save the figure.
        rms: Whether to measure in `||x - x*||_2 / sqrt(d)` of pixels in 0..255.

    Example:

    >>> found = td.metrics.distortion(x, DeepFool()(model, x, y))
    >>> len(distortion({"DeepFool": found}).axes)
    1
    """
    named_items(distortions, "distortions", "Distortion")
    norms = {d.norm for d in distortions.values()}
    if len(norms) > 1 and not rms:
        raise ValueError(
            f"`distortions` must all be in one norm. Received {', '.join(sorted(norms))}. Draw one figure a norm, or pass rms=True."
        )
    lengths = {name: np.sort((d.rms if rms else d.distance)[d.success]) for name, d in distortions.items()}
    end = 1.05 * max([length[-1] for length in lengths.values() if len(length)], default=1.0) or 1.0
    with canvas.figure((4.6, 3.1), path) as figure:
        unit = "root mean square change of a pixel (of 255)" if rms else f"{norms.copy().pop()} distance"
        axes = canvas.axes(figure, unit, "success rate")
        for item, colour, style, name in styled(distortions):
            length = lengths[name]
            share = np.arange(1, len(length) + 1) / len(item)
            x, y = np.concatenate([[0], length, [end]]), np.concatenate([[0], share, [share[-1] if len(share) else 0]])
            axes.plot(x, y, color=colour, linestyle=style["linestyle"], drawstyle="steps-post", label=name)
            if item.success.mean() >= 0.5:
                half = length[int(np.ceil(len(item) / 2)) - 1]
                axes.plot([half], [0.5], marker="o", markersize=4.5, color=colour, markeredgecolor="white", zorder=3)
        axes.axhline(0.5, color=FAINT, linewidth=0.6, linestyle=":")
        axes.set_xlim(0, end)
        canvas.shares(axes.yaxis)
        canvas.legend_above(axes)
        return figure


def detectability(points: Mapping[str, ArrayLike], path: PathLike | None = None) -> Figure:
    """Detectability against the classifier's accuracy on the same adversarial samples: one line an adversary.

    Args:
        points: Dict from the adversary's name to (n, 2) pairs of (accuracy, detectability), in the order of its sizes.
        path: Where to save the figure.

    Example:

    >>> len(detectability({"FGSM": [(0.6, 0.7), (0.3, 0.9)]}).axes)
    1
    """
    named_items(points, "points", "pairs (accuracy, detectability)")
    pairs = {name: np.atleast_2d(np.asarray(values, dtype="float64")) for name, values in points.items()}
    for name, values in pairs.items():
        if values.ndim != 2 or values.shape[1] != 2 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"`points[{name!r}]` must be (n, 2) shares: accuracy, detectability. Received shape {values.shape}: "
                f"{values.tolist()}. Divide percentages by 100."
            )
    with canvas.figure((4.2, 3.3), path) as figure:
        axes = canvas.axes(figure, "accuracy of the classifier on adversarial samples", "accuracy of the detector")
        axes.axhline(0.5, color=FAINT, linewidth=0.8, linestyle=":")
        axes.annotate("chance", (1, 0.5), xytext=(-2, 3), textcoords="offset points", color=FAINT, fontsize=7.5, ha="right")
        for values, colour, style, name in styled(pairs):
            mark = {"marker": style["marker"], "markersize": 6, "markeredgecolor": "white", "markeredgewidth": 0.8}
            axes.plot(*values.T, color=colour, linewidth=0.9, label=name, clip_on=False, zorder=3, **mark)
        canvas.shares(axes.xaxis)
        canvas.shares(axes.yaxis, low=min(0.4, np.floor(10 * min(v[:, 1].min() for v in pairs.values())) / 10))
        canvas.legend_above(axes)
        return figure


def matrix(
    values: ArrayLike,
    rows: Sequence[str],
    columns: Sequence[str],
    path: PathLike | None = None,
    *,
    ylabel: str = "",
    xlabel: str = "",
) -> Figure:
    """Shares as a table in shades, such as the detectability of detectors fitted on one attack and tested on another.

    Args:
        values: Shares of shape (rows, columns).
        rows, columns: Their names.
        path: Where to save the figure.
        ylabel, xlabel: What rows and columns are.

    Example:

    >>> len(matrix([[0.9, 0.6], [0.8, 0.9]], ["1", "2"], ["1", "2"], ylabel="fitted at").axes)
    1
    """
    values = np.asarray(values, "float64")
    if values.shape != (len(rows), len(columns)) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"`values` must be shares of shape {(len(rows), len(columns))}. Received shape {values.shape}: {values.tolist()}."
        )
    with canvas.figure((1.4 + 0.55 * len(columns), 1.0 + 0.36 * len(rows)), path) as figure:
        axes = canvas.axes(figure, xlabel, ylabel)
        # Chance is white: what a detector tells there is nothing.
        axes.imshow(values, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(values):
            ink = "white" if abs(share - 0.5) > 0.35 else INK
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
        slanted = max(len(str(name)) for name in columns) > 6
        axes.set_xticks(range(len(columns)), columns, **({"rotation": 30, "ha": "right"} if slanted else {}))
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params(length=0)
        axes.grid(False)
        return figure


def examples(
    x: ArrayLike,
    x_adv: ArrayLike,
    y: ArrayLike,
    labels: ArrayLike,
    path: PathLike | None = None,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    magnify: float | None = None,
    class_names: Sequence[str] | None = None,
    columns: int = 10,
) -> Figure:
    """Clean samples, magnified perturbations and adversarial examples, one sample a column.

    Args:
        x, x_adv: Images of shape (n, height, width), (n, height, width, 1) or (n, height, width, 3).
        y: True classes.
        labels: What the model says of the adversarial examples: a class, or -1 = rejected.
        path: Where to save the figure.
        bounds: Lowest and highest value of a pixel; every image is drawn on this scale.
        magnify: Factor on the perturbations; by default the largest round one that clips none. The figure names it.
        class_names: Names to write in place of the numbers.
        columns: At most this many samples are drawn.

    Example:

    >>> result = FGSM(0.2)(model, x, y)
    >>> figure = examples(x, result.x_adv, y, result.label)
    """
    from tfdefense._validation import check_inside, check_labels, check_same_length, finite_bounds

    y, labels = check_labels(y, "y"), check_labels(labels, "labels", rejection=True)
    x, x_adv = check_inside(x, bounds), check_inside(x_adv, bounds, "x_adv")
    check_same_length(x=x, x_adv=x_adv, y=y, labels=labels)
    shape = x.shape[1:]
    if x.shape != x_adv.shape or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
        raise ValueError(
            "`x` and `x_adv` must be images of one shape (n, height, width[, 1 or 3]). "
            f"Received {x.shape} and {x_adv.shape}. Reshape, or choose the channels to show."
        )
    low, high = finite_bounds(bounds)
    colour = len(shape) == 3 and shape[2] == 3
    clean, adversarial = ((v[:columns].astype("float64") - low) / (high - low) for v in (x, x_adv))
    change = adversarial - clean
    magnify = round_factor(np.abs(change).max()) if magnify is None else magnify
    rows = {"clean": clean, f"change ×{magnify:g}": 0.5 + 0.5 * magnify * change, "adversarial": adversarial}

    def said(label):
        return "rejected" if label == -1 else str(label if class_names is None else class_names[label])

    size = 0.9 if colour else 0.72
    with canvas.figure((0.35 + size * len(clean), size * 3 + 0.45), path) as figure:
        grid = figure.subplots(3, len(clean), squeeze=False)
        for axes_row, (name, images) in zip(grid, rows.items(), strict=True):
            cmap = "RdBu_r" if name.startswith("change") else "gray"
            for axes, image in zip(axes_row, images, strict=True):
                image = np.clip(image, 0, 1) if colour else image.reshape(shape[:2])
                axes.imshow(image, cmap=None if colour else cmap, vmin=0, vmax=1, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                for spine in axes.spines.values():
                    spine.set(visible=True, color="#C8CCD0", linewidth=0.5)
            axes_row[0].set_ylabel(name, fontsize=8, labelpad=4)
        for axes, true, label in zip(grid[2], y, labels, strict=False):
            ink = {-1: FAINT, true: RIGHT}.get(label, WRONG)
            text = f"{said(true)} → {said(label)}"
            text = text if len(text) <= 12 else f"{said(true)} →\n{said(label)}"
            axes.set_xlabel(text, fontsize=7.5, color=ink, labelpad=4)
        return figure


def embedding(points: ArrayLike, y: ArrayLike, path: PathLike | None = None, *, class_names: Sequence[str] | None = None) -> Figure:
    """Samples in the plane, such as t-SNE of a hidden layer, in the colours of their classes.

    Args:
        points: Array of shape (n, 2).
        y: Their classes.
        path: Where to save the figure.
        class_names: Names to write in place of the numbers.

    Example:

    >>> len(embedding(np.array([[0.0, 0.0], [1.0, 1.0]]), [0, 1]).axes)
    1
    """
    from tfdefense._validation import check_labels, check_numbers, check_same_length

    points, y = check_numbers(points, "points", ndim=2), check_labels(y)
    check_same_length(points=points, y=y)
    if points.shape[1] != 2:
        raise ValueError(f"`points` must have shape (n, 2). Received {points.shape}. Project them, with t-SNE for example.")
    with canvas.figure((3.9, 3.5), path) as figure:
        axes = figure.subplots()
        for number, label in enumerate(np.unique(y)):
            name = str(label if class_names is None else class_names[label])
            # Ten colours and then other markers: more classes than that no palette tells apart.
            look: dict[str, Any] = {"color": f"C{number % 10}", "marker": MARKERS[number // 10 % len(MARKERS)]}
            axes.scatter(points[y == label, 0], points[y == label, 1], s=7, linewidths=0, label=name, **look)
        axes.set(xticks=[], yticks=[], aspect="equal")
        axes.grid(False)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=2, handletextpad=0.2)
        return figure


def round_factor(largest):
    """The largest of 1, 2, 5, 10, 20, ... that keeps the perturbation in range."""
    if largest == 0:
        return 1
    power = 10.0 ** np.floor(np.log10(1 / largest))
    return float(max([1.0] + [step * power for step in (1, 2, 5) if step * power * largest <= 1 + 1e-6]))


def named_items(items, name, what):
    if not isinstance(items, dict) or not items:
        got = "an empty dict" if isinstance(items, dict) else type(items).__name__
        raise ValueError(
            f"`{name}` must be a dict from a name to {what}, with at least one entry. Received {got}. "
            f"Pass {{'model': ...}}: the name goes into the legend."
        )


def styled(items):
    """Each item, its colour, marker and style of a line without markers, and its name: no two alike, of 7 or of 14."""
    for i, (name, item) in enumerate(items.items()):
        again, colour = divmod(i, len(PALETTE))
        style = {"marker": MARKERS[(i + again) % len(MARKERS)], "linestyle": "-" if again % 2 == 0 else (0, (1, 0.8))}
        yield item, PALETTE[colour], style, str(name)
