"""The control of every table of rejections: samples that nobody attacked, after changes that nobody would call an attack."""

from evaluation.detector_plan import shown


def changed(x, changes):
    """The samples as they are and after each of some changes, by name.

    Args:
        changes: Pairs of a kind of `td.metrics.harmless` and its size.
    """
    from tfdefense.metrics import harmless

    return {"unchanged": x} | {f"{kind} {shown(size)}": harmless(x, size, kind) for kind, size in changes}
