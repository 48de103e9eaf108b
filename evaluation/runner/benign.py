"""The control of every table of rejections: samples that nobody attacked, under benign perturbations."""


def size_text(size):
    """A size to read: whole parts of 255 as such."""
    parts = round(size * 255, 3)
    return f"{parts:g}/255" if parts == int(parts) and round(size, 2) != size else f"{size:g}"


def perturbed(x, perturbations):
    """The samples as they are and under some benign perturbations: a list of kind ("" for none), size and samples.

    Args:
        perturbations: Pairs of a kind of `td.metrics.benign_perturbation` and its size.
    """
    from tfdefense.metrics import benign_perturbation

    return [("", None, x), *((kind, size, benign_perturbation(x, size, kind)) for kind, size in perturbations)]
