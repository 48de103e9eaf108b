"""The rows of `dnr` and `dnr_trained`."""

import os

import numpy as np

from evaluation.papers.dnr.measure import ATTACKS, BENIGN_SAMPLES

FIGURE = "sotgiu2020.fig3"
CLEAN = "sotgiu2020.ours.clean"
COST = "sotgiu2020.ours.cost"
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
    """The curve of each attack over the splits, and its largest share of samples without a gradient."""
    from tfdefense.metrics import SecurityCurve

    curves, zeros = {}, {}
    for kind in ATTACKS:
        shares = ([np.array(run[kind][name]) for name in ("accuracies", "rejections", "errors")] for run in found)
        curves[kind] = SecurityCurve.join(SecurityCurve(sizes, *run) for run in shares)
        zeros[kind] = max(tuple(run[kind]["zero_gradient"]) for run in found)
    return curves, zeros


def add_curves(context, table, row, curves, zeros, n, clean_rejection=True, **fields):
    """A row for each size and attack. Without `clean_rejection` what is rejected at size 0 is left to the rows of clean samples."""
    for kind, attack in ATTACKS.items():
        curve, about = curves[kind], fields | attack | {"row": row, "n": n}
        several, fell = len(curve.accuracies) > 1, curve.fell_to_zero()
        for place, size in enumerate(curve.sizes.tolist()):
            # What a perturbation of the largest size leaves, a better attack would have: it makes samples of another class of most.
            here = about | {"epsilon": size, "flags": (FAILED,) if size and not fell else ()}
            deviation = float(curve.deviation[place]) if several else None
            metric = "robust accuracy" if size else "accuracy"
            context.row(table, metric, float(curve.accuracy[place]), deviation=deviation, **here)
            # Later searches replace what they have won: what is rejected of the rest is not theirs.
            if kind == "paper" and curve.rejections.any() and (size or clean_rejection):
                deviation = float(curve.rejection_deviation[place]) if several else None
                metric = "rejection rate" if size else "false-positive rate"
                context.row(table, metric, float(curve.rejection[place]), deviation=deviation, **here | {"flags": ()})
        share, attacked = zeros[kind]
        context.row(
            GRADIENTS, "zero-gradient rate", share, **fields, **attack, row="N4", n=attacked, statistic="largest over sizes"
        )


def add_order(context, curves, low, high, n):
    """Whether the systems stand in the paper's order from one size to another; where next to nothing is left there is none."""
    for kind, attack in ATTACKS.items():
        left = {system: dict(zip(of[kind].sizes, of[kind].accuracy, strict=True)) for system, of in curves.items()}
        sizes = [size for size in left["DNR"] if low <= size <= high]
        compared = [size for size in sizes if max(of[size] for of in left.values()) >= NOTHING_LEFT]
        broken = [size for size in compared if not left["DNR"][size] >= left["NR"][size] > left["no defense"][size]]
        note = f"{len(compared)} of {len(sizes)} sizes leave one of them {NOTHING_LEFT:g} or more; "
        note += "differs at l2 " + ", ".join(f"{size:g}" for size in broken) if broken else "none differs"
        fields = attack | {"order": "DNR at or above NR, NR above no defense", "from": float(low), "to": float(high)}
        context.row(FIGURE, "order", float(bool(compared) and not broken), row="N5", n=n, note=note, **fields)


def add_cost(context, speed, curves, size, n):
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
        note = "one split, its first samples, this size alone; the curve also counts what smaller ones have found"
        for kind, attack in ATTACKS.items():
            left = curve[kind]["accuracies"][0][0]
            context.row(COST, "robust accuracy", left, **about, **attack, epsilon=size, n=n, note=note)
