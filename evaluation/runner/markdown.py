"""Rows as tables in Markdown."""

from evaluation.runner.rows import BOUNDED

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
    if row.flags and row.metric in BOUNDED:
        text = f"≤ {text}"
    if row.paper is None:
        return text
    return f"{text} (paper {_BOUNDS[row.paper_bound]}{row.paper:.{digits}f})"


def pivot(rows, down, across, show=number, names=None):
    """A table of rows by two fields: `down` (one or several fields) gives the lines, `across` the columns.

    A field is a name, or a function of a row that gives the value and whose name is the heading. Two rows in one cell are an error:
    name one more field.
    """
    down = down if isinstance(down, tuple) else (down,)
    lines, columns = {}, dict.fromkeys(_value(row, across) for row in rows)
    for row in rows:
        at = lines.setdefault(tuple(_value(row, field) for field in down), {})
        column = _value(row, across)
        if column in at:
            raise ValueError(f"Two rows belong into one cell: {row.about()}. Name one more field in `down`, or fewer rows.")
        at[column] = row
    names = names or {}
    head = [
        *(field.__name__ if callable(field) else field for field in down),
        *(names.get(column, cell(column)) for column in columns),
    ]
    return markdown(head, [[*key, *(show(found.get(column)) for column in columns)] for key, found in lines.items()])


def _value(row, field):
    return field(row) if callable(field) else row.get(field)
