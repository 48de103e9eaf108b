"""What the commands print: lines, tables, errors in one line."""

from rich.console import Console


def out():
    return Console(highlight=False)


def tell(text):
    """A line on stderr, whole however narrow the terminal is."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def one_line(error):
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {' '.join(error.strerror.split())}."
    return " ".join(str(error).split()) or type(error).__name__


def outcome_table(title, rows):
    """A table of right, rejected and wrong, in percent. Rows are pairs of a name and `Outcomes`; None draws a line."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("samples", no_wrap=True)
    for column in ("right", "rejected", "wrong", "robust accuracy"):
        table.add_column(column, justify="right")
    for name, outcomes in rows:
        if outcomes is None:
            table.add_section()
            continue
        rejects = outcomes.suspicion is not None or outcomes.rejected.any()
        shares = (outcomes.accuracy, outcomes.rejection if rejects else None, outcomes.error, outcomes.robust_accuracy)
        table.add_row(name, *("-" if share is None else f"{share:.1%}" for share in shares))
    return table
