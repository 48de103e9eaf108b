"""The rows of `dnr` and `dnr_trained`."""

import os

import numpy as np

from evaluation.papers.dnr.measure import ATTACKS, BENIGN_SAMPLES

FIGURE = "sotgiu2020.fig3"
CLEAN = "sotgiu2020.ours.clean"
COST = "sotgiu2020.ours.cost"
DISTANCE = "sotgiu2020.ours.distance"
GRADIENTS = "sotgiu2020.ours.gradients"
VARIANTS = "sotgiu2020.ours.variants"
FAILED = "accuracy does not fall to zero"
# A robust accuracy below which an order would be one of single samples.
NOTHING_LEFT = 0.02


def add_clean(context, table, row, found, **fields):
    """Of samples that nobody attacked; `found` holds one measurement for each split."""

    def add(row, metric, values, n, **about):
        about |= {"deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None, "n": n, "row": row}
        context.row(table, metric, float(np.mean(values)), **fields, **about)

    n = found[0]["samples"]
    add(row, "accuracy", [run["accuracy"] for run in found], n)
    if found[0]["benign"]:
        add("N3", "false-positive rate", [run["rejection"] for run in found], n)
    for place, (kind, size, _) in enumerate(found[0]["benign"]):
        rates = [run["benign"][place][2] for run in found]
        add("N3", "false-positive rate", rates, min(BENIGN_SAMPLES, n), perturbation=kind, epsilon=size)


def joined(found, sizes):
    """The curve of each attack over the splits."""
    from tfdefense.metrics import SecurityCurve

    curves = {}
    for kind in ATTACKS:
        shares = ([np.array(run[kind][name]) for name in ("accuracies", "rejections", "errors")] for run in found)
        curves[kind] = SecurityCurve.join(SecurityCurve(sizes, *run) for run in shares)
    return curves


def add_curves(context, table, row, curves, found, clean_rejection=True, **fields):
    """A row for each size and attack. Without `clean_rejection` what is rejected at size 0 is left to the rows of clean samples.

    Args:
        curves: Of each attack, over all splits.
        found: What was measured, one a split.
    """
    for kind, attack in ATTACKS.items():
        runs = [one[kind] for one in found]
        curve, about = curves[kind], fields | attack | {"row": row, "n": runs[0]["n"]}
        several, fell = len(curve.accuracies) > 1, curve.fell_to_zero()
        above = [size for size in curve.sizes.tolist() if size]
        for place, size in enumerate(curve.sizes.tolist()):
            # What a perturbation of the largest size leaves, a better attack would have: it makes samples of another class of most.
            here = about | {"epsilon": size, "flags": (FAILED,) if size and not fell else ()}
            if size and runs[0]["step_sizes"]:
                lengths = sorted({run["step_sizes"][above.index(size)] for run in runs})
                here["note"] = f"step size {', '.join(f'{one:g}' for one in lengths)}"
            deviation = float(curve.deviation[place]) if several else None
            metric = "robust accuracy" if size else "accuracy"
            context.row(table, metric, float(curve.accuracy[place]), deviation=deviation, **here)
            # Later searches replace what they have won: what is rejected of the rest is not theirs.
            if kind != "worst_case" and curve.rejections.any() and (size or clean_rejection):
                deviation = float(curve.rejection_deviation[place]) if several else None
                metric = "rejection rate" if size else "false-positive rate"
                context.row(table, metric, float(curve.rejection[place]), deviation=deviation, **here | {"flags": ()})
        share, attacked = max(tuple(run["zero_gradient"]) for run in runs)
        context.row(
            GRADIENTS, "zero-gradient rate", share, **fields, **attack, row="N4", n=attacked, statistic="largest over sizes"
        )


def add_distance(context, found, **fields):
    """The median distance of the nearest examples: its mean over splits; of samples without one it is beyond all others."""
    medians = [float(np.median([np.inf if one is None else one for one in run])) for run in found]
    about = {"attack": "minimum norm", "norm": "l2", "knowledge": "adaptive", "starts": "all", "row": "N5", "n": len(found[0])}
    if not np.isfinite(medians).all():
        note = "no example is known for half of the samples of a split: the attack failed"
        context.row(DISTANCE, "median distance", None, **fields, **about, note=note)
        return
    deviation = float(np.std(medians, ddof=1)) if len(medians) > 1 else None
    context.row(DISTANCE, "median distance", float(np.mean(medians)), deviation=deviation, **fields, **about)


def add_orders(context, curves, plan, n):
    """Whether the systems stand in the paper's order, and whether NR rejects more than DNR where the paper's does."""
    for kind, attack in ATTACKS.items():
        left = {system: dict(zip(of[kind].sizes, of[kind].accuracy, strict=True)) for system, of in curves.items()}

        def holds(size, left=left):
            # Where next to nothing is left there is no order.
            if max(of[size] for of in left.values()) < NOTHING_LEFT:
                return None
            return left["DNR"][size] >= left["NR"][size] > left["no defense"][size]

        _order(context, curves, plan.ordered, holds, "DNR at or above NR, NR above no defense", attack, n)
        if kind != "worst_case" and plan.rejecting:
            rejected = {system: dict(zip(of[kind].sizes, of[kind].rejection, strict=True)) for system, of in curves.items()}
            more = lambda size, rejected=rejected: rejected["NR"][size] > rejected["DNR"][size]  # noqa: E731
            _order(context, curves, plan.rejecting, more, "NR rejects more than DNR", attack, n)


def _order(context, curves, between, holds, named, attack, n):
    low, high = between
    sizes = [float(size) for size in curves["DNR"]["best"].sizes if low <= size <= high]
    found = {size: holds(size) for size in sizes}
    compared = {size: one for size, one in found.items() if one is not None}
    broken = [size for size, one in compared.items() if not one]
    note = f"{len(compared)} of {len(sizes)} sizes leave one of them {NOTHING_LEFT:g} or more; "
    note += "differs at l2 " + ", ".join(f"{size:g}" for size in broken) if broken else "none differs"
    fields = attack | {"order": named, "from": float(low), "to": float(high)}
    context.row(FIGURE, "order", float(bool(compared) and not broken), row="N5", n=n, note=note, **fields)


def add_cost(context, speed, curves, size):
    """Seconds to fit, and what DNR takes and is worth with all of its support vectors and with few."""
    for system, seconds in speed["seconds"].items():
        context.row(COST, "seconds", seconds, row="N2", system=system, base="clean", note="to fit; one split, alone on the machine")
    timed = f"wall time of a compiled call on 256 samples, {os.environ.get('TF_NUM_INTRAOP_THREADS', 'all')} threads of TensorFlow"
    for name, curve in curves.items():
        found, about = speed[name], {"row": "N1", "system": "DNR", "base": "clean", "detector": name}
        context.row(COST, "time ratio", found["ratio"], **about, note=timed)
        context.row(COST, "accuracy", found["accuracy"], **about, n=found["samples"])
        context.row(COST, "false-positive rate", found["rejection"], **about, n=found["samples"])
        listed = f"of each layer's SVM and the combiner: {', '.join(map(str, found['vectors']))}"
        context.row(COST, "count", sum(found["vectors"]), **about, counted="support vectors", note=listed)
        for kind, attack in ATTACKS.items():
            left, note = curve[kind]["accuracies"][0][0], "one split, its first samples, this size alone"
            if kind == "worst_case":
                note += "; the curve also counts what smaller ones have found"
            context.row(COST, "robust accuracy", left, **about, **attack, epsilon=size, n=curve[kind]["n"], note=note)
