"""The control of every table of rejections: samples that nobody attacked, after changes that nobody would call an attack."""


def shown(size):
    """A size to read: whole parts of 255 as such."""
    parts = round(size * 255, 6)
    return f"{parts:g}/255" if parts == int(parts) and round(size, 2) != size else f"{size:g}"


def told(change):
    """A kind of harmless change and its size, to read."""
    kind, size = change
    return f"{kind} {shown(size)}"


def changed(x, changes):
    """The samples as they are and after each of some changes, by name.

    Args:
        changes: Pairs of a kind of `td.metrics.harmless` and its size.
    """
    from tfdefense.metrics import harmless

    return {"unchanged": x} | {told((kind, size)): harmless(x, size, kind) for kind, size in changes}
