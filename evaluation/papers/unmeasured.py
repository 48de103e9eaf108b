"""What a page says of what nobody has measured yet: the command that does, and what it takes."""

from evaluation.runner import results as files
from evaluation.runner.rows import Results


def unmeasured(command, hours):
    """A line for the page.

    Args:
        command: Of `python -m evaluation`, with its options.
        hours: Of CPU time, all cores together; an estimate.
    """
    return f"Not measured: `python -m evaluation {command}` does, in about {hours:g} hours of CPU time."


def beside(protocol, results):
    """Another protocol's results on the same set, or None where there are none."""
    path = files.RESULTS / f"{protocol}-{results.about['dataset']}.json"
    return Results.load(path) if path.exists() else None


def rows_of(results):
    """A link to the rows: the page can have it no sooner than there are some."""
    return f"[All rows]({results.name}.csv)."


LATER = "results older than this goal lack its rows; the command that measures it stands where its table will"


def later(value, **fields):
    """A goal's look-up: None where results have no row of these fields yet. Of others a row that is missing stays an error."""
    return lambda of: value(of) if of.all(**fields) else None
