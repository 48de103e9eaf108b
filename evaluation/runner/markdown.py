"""Rows as tables in Markdown."""

_BOUNDS = {"": "", ">=": "≥ ", "~": "about "}


def cell(value):
    """A value as a table shows it."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).replace("|", "\\|").replace("\n", " ")


def markdown(head, lines):
    """A table: names of the columns, and lines of values."""
    every = [head, ["---"] * len(head), *([cell(value) for value in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def number(row, digits=3):
    """The value of a row, what it is worth, and the paper's beside it."""
    if row is None:
        return "-"
    text = "-" if row.value is None else f"{row.value:.{digits}f}" if abs(row.value) < 100 else f"{row.value:.0f}"
    if row.deviation is not None:
        text += f" ± {row.deviation:.{digits}f}"
    elif row.interval:
        text += f" [{row.interval[0]:.{digits}f}, {row.interval[1]:.{digits}f}]"
    if row.flags:
        text = f"≤ {text}"
    if row.paper is None:
        return text
    return f"{text} (paper {_BOUNDS[row.paper_bound]}{row.paper:.{digits}f})"


def pivot(rows, down, across, show=number, names=None):
    """A table of rows by two fields: `down` (one or several fields) gives the lines, `across` the columns.

    Two rows in one cell are an error: name one more field.
    """
    down = (down,) if isinstance(down, str) else down
    lines, columns = {}, dict.fromkeys(row.get(across) for row in rows)
    for row in rows:
        at = lines.setdefault(tuple(row.get(name) for name in down), {})
        if row.get(across) in at:
            raise ValueError(f"Two rows belong into one cell: {row.about()}. Name one more field in `down`, or fewer rows.")
        at[row.get(across)] = row
    names = names or {}
    head = [*down, *(names.get(column, cell(column)) for column in columns)]
    return markdown(head, [[*key, *(show(found.get(column)) for column in columns)] for key, found in lines.items()])
