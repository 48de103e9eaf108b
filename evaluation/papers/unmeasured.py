"""What a page says of what nobody has measured yet: the command that does, and what it takes."""


def unmeasured(command, hours):
    """A line for the page.

    Args:
        command: Of `python -m evaluation`, with its options.
        hours: Of CPU time, all cores together; an estimate.
    """
    return f"Not measured: `python -m evaluation {command}` does, in about {hours:g} hours of CPU time."
