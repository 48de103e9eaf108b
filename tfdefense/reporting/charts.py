"""Charts as SVG text: the page colours them, so that they follow its light or dark look."""

from html import escape

WIDTH, HEIGHT = 440, 280
LINE = 15
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 12, 40
MARKERS = ("circle", "square", "triangle", "diamond")


def lines(curves, xlabel, *, x_max, y_max=1.0, ylabel="share of samples", marked=None, diagonal=False, x_shares=False, second=None):
    """Curves of shares.

    Args:
        curves: Dicts with `name`, `x`, `y`, `colour` (a number) and, if wanted, `dashed` and `bare` (no markers).
        xlabel, ylabel: What the axes are.
        x_max, y_max: Where the axes end.
        marked: An x to draw a thin line at.
        diagonal: Whether to draw the line of chance.
        x_shares: Whether the x axis has shares, too; with the line of chance it has.
        second: A function from a tick of the x axis to a second label, below the first.
    """
    ticks = [x_max * part / 4 for part in range(5)]
    height = HEIGHT + (LINE if second else 0)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(ylabel)} against {escape(xlabel)}">']
    for share in (0, 0.25, 0.5, 0.75, 1):
        y, share = _y(share), share * y_max
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{100 * share:.3g}%</text>')
    for tick in ticks:
        label = f"{tick:.0%}" if diagonal or x_shares else f"{tick:.3g}"
        parts.append(f'<text x="{_x(tick, x_max)}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{label}</text>')
        if second:
            y = HEIGHT - BOTTOM + 17 + LINE
            parts.append(f'<text class="second" x="{_x(tick, x_max)}" y="{y}" text-anchor="middle">{escape(second(tick))}</text>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(f'<text class="label" x="{middle}" y="{height - 5}" text-anchor="middle">{escape(xlabel)}</text>')
    if diagonal:
        parts.append(f'<line class="chance" x1="{_x(0, 1)}" y1="{_y(0)}" x2="{_x(1, 1)}" y2="{_y(1)}"/>')
    if marked is not None:
        x = _x(marked, x_max)
        parts.append(f'<line class="chance" x1="{x}" x2="{x}" y1="{_y(0)}" y2="{_y(1)}"/>')
    for curve in curves:
        points = [(_x(x, x_max), _y(y / y_max)) for x, y in zip(curve["x"], curve["y"], strict=True)]
        path = " ".join(f"{x},{y}" for x, y in points)
        style = ' stroke-dasharray="5 4"' if curve.get("dashed") else ""
        parts.append(f'<polyline class="c{curve["colour"]}"{style} points="{path}"/>')
        if not curve.get("bare"):
            for (x, y), at, share in zip(points, curve["x"], curve["y"], strict=True):
                tip = escape(
                    f"{curve['name']}: {share:.1%} at {at:.3g}" + (f" ({second(at)} of 255 grey levels)" if second else "")
                )
                parts.append(f'<g class="f{curve["colour"]}" data-tip="{tip}">{_marker(curve["colour"], x, y)}</g>')
    return "".join([*parts, "</svg>"])


def spark(values):
    """A small line of a mean that should fall."""
    if len(values) < 2 or any(value is None for value in values):
        return ""
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    points = " ".join(
        f"{2 + 116 * i / (len(values) - 1):.1f},{2 + 26 * (high - value) / span:.1f}" for i, value in enumerate(values)
    )
    return f'<svg class="spark" viewBox="0 0 120 30" aria-hidden="true"><polyline class="c0" points="{points}"/></svg>'


def _marker(kind, x, y):
    shape = MARKERS[kind % len(MARKERS)]
    # A wide invisible ring is what a finger can hit.
    ring = f'<circle class="hit" cx="{x}" cy="{y}" r="11"/>'
    if shape == "circle":
        return f'{ring}<circle cx="{x}" cy="{y}" r="4"/>'
    if shape == "square":
        return f'{ring}<rect x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"/>'
    corners = {"triangle": ((0, -5), (4.8, 3.6), (-4.8, 3.6)), "diamond": ((0, -5), (5, 0), (0, 5), (-5, 0))}[shape]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return f'{ring}<polygon points="{path}"/>'


def _x(value, x_max):
    return round(LEFT + (WIDTH - LEFT - RIGHT) * min(max(value / x_max, 0), 1), 1)


def _y(share):
    return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(max(share, 0), 1), 1)
