"""Certified and attacked accuracy, a line for each network and size."""

from evaluation.benchmarks.certified.protocol import ALONE, SMOOTHED
from evaluation.runner.markdown import markdown, number


def curve(results):
    """From below and from above, at each size that was attacked; and how many certified samples the attack breaks all the same."""
    lines = []
    for row in results.all(metric="robust accuracy", system=SMOOTHED):
        here = {"base": row.base, "norm": "l2", "epsilon": row.epsilon}
        broken = results.one(metric="count", **here)
        lines.append(
            (
                row.base,
                row.epsilon,
                number(results.one(metric="certified accuracy", **here)),
                number(row),
                number(results.one(metric="robust accuracy", system=ALONE, **here)),
                f"{broken.value} of {broken.n}",
            )
        )
    head = ("network", "l2 size", "certified accuracy", "robust accuracy", "robust accuracy, network alone")
    return markdown((*head, "certified samples that the attack breaks"), lines)


def radii(results):
    """Certified accuracy over all sizes."""
    rows = results.all(metric="certified accuracy")
    sizes = sorted({row.epsilon for row in rows})
    bases = dict.fromkeys(row.base for row in rows)
    lines = [(base, *(results(metric="certified accuracy", base=base, epsilon=size) for size in sizes)) for base in bases]
    return markdown(("network", *(f"l2 {size:g}" for size in sizes)), lines)


def clean(results):
    """Clean and benignly perturbed samples: right, and rejected."""
    lines = []
    for row in results.all(metric="false-positive rate"):
        here = {"base": row.base, "perturbation": row.perturbation}
        right = [results(metric="accuracy", system=system, **here) for system in (SMOOTHED, ALONE)]
        cost = results(metric="passes", base=row.base)
        lines.append((row.base, row.perturbation or "none", row.epsilon, number(row), *right, cost))
    head = ("network", "perturbation", "size", "false-positive rate", "accuracy", "accuracy of the network alone")
    return markdown((*head, "passes of the network for a prediction"), lines)


def ood(results):
    """A line for each set and system: the AUROC as it is, attacked and guaranteed, and what is rejected for sure."""
    lines = []
    for row in results.all(metric="AUROC", bound="clean"):
        here = {"ood": row.ood, "system": row.system}
        others = [results.values("bound", metric=metric, **here) for metric in ("AUROC", "rejection rate")]
        values = [others[0].get("attacked"), others[0].get("guaranteed"), others[1].get("clean"), others[1].get("guaranteed")]
        lines.append((row.ood, row.system, row.n, row.value, *values))
    head = (
        "out of distribution",
        "system",
        "n",
        "AUROC",
        "AUROC, attacked",
        "AUROC, guaranteed",
        "rejected",
        "rejected, guaranteed",
    )
    return markdown(head, lines)


def ood_clean(results):
    """What the discriminator costs on clean images."""
    lines = [
        (row.system, row.n, row.value, results(metric="false-positive rate", system=row.system))
        for row in results.all(metric="accuracy")
    ]
    return markdown(("system", "n", "accuracy", "false-positive rate"), lines)


TABLES = {"certified": {"curve": curve, "radii": radii, "clean": clean}, "certified_ood": {"auroc": ood, "clean": ood_clean}}
