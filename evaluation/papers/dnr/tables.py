"""The rows of `evaluation/dnr.py`."""

import os

import numpy as np

from evaluation.papers.dnr.measure import ATTACKS, HARMLESS_SAMPLES, METHODS

# A share not fooled below which an order would be one of single samples.
NOTHING_LEFT = 0.02


def add_clean_rows(context, clean):
    for method, found in clean.items():
        for name in ("accuracy", "rejection") if method != "DNN" else ("accuracy",):
            values = [run[name] for run in found]
            # The same network on the same samples each time.
            spread = {} if method == "DNN" else {"std": _deviation(values)}
            row = "N3" if name == "rejection" else "N5"
            context.row(row, f"{method}, clean {name}", float(np.mean(values)), samples=found[0]["samples"], **spread)

        for change in found[0].get("harmless", ()):
            values = [run["harmless"][change] for run in found]
            what = f"{method}, rejected of harmless changes, {change}"
            context.row(
                "N3", what, float(np.mean(values)), std=_deviation(values), samples=min(HARMLESS_SAMPLES, found[0]["samples"])
            )


def add_curve_rows(context, curves, zeros, plan, number):
    for kind, told in ATTACKS.items():
        for method in METHODS:
            curve = curves[kind][method]
            what = f"{method}, {told}"
            # Later starts replace what they have won: of the rest it is not the strongest attack that tells what is rejected.
            for of in ("accuracy", "rejection") if (kind, method != "DNN") == ("paper", True) else ("accuracy",):
                context.series.append(curve.to_series("N5", f"{what}: {of} against l2 size", of))
            fell = curve.fell_to_zero()
            context.row(
                "N5",
                f"{what}: accuracy at l2 {curve.sizes[-1]:g}",
                float(curve.accuracy[-1]),
                std=float(curve.deviation[-1]),
                samples=number,
                note="" if fell else "attack failed here: a perturbation of this size makes a sample of another class of most",
            )
            share, attacked = zeros[kind][method]
            context.row("N4", f"{what}: largest share without a gradient", share, samples=attacked)
        _order_row(context, curves[kind], told, plan, number, paper=True if kind == "paper" else None)


def _order_row(context, curves, told, plan, number, paper):
    """Whether the methods stand in the paper's order, and where they do not; what is fooled throughout has no order."""
    low, high = plan.ordered
    places = [place for place, size in enumerate(curves["DNR"].sizes) if low <= size <= high]
    broken, compared = [], 0
    for place in places:
        accuracy = {method: float(curves[method].accuracy[place]) for method in METHODS}
        if max(accuracy.values()) < NOTHING_LEFT:
            continue
        compared += 1
        if accuracy["DNR"] < accuracy["NR"] or accuracy["NR"] <= accuracy["DNN"]:
            shares = ", ".join(f"{method} {share:.3f}" for method, share in accuracy.items())
            broken.append(f"l2 {curves['DNR'].sizes[place]:g}: {shares}")
    note = f"{compared} of {len(places)} sizes leave one of them {NOTHING_LEFT:g} or more; " + ("; ".join(broken) or "none differs")
    what = f"{told}: DNR at or above NR and NR above DNN for l2 {low:g} to {high:g}"
    context.row("N5", what, bool(compared and not broken), paper=paper, samples=number, note=note)


def add_speed_rows(context, speed):
    threads = f"{os.environ.get('TF_NUM_INTRAOP_THREADS', 'all')} threads of TensorFlow"
    for method, seconds in speed["seconds"].items():
        context.row("N2", f"{method}, seconds to fit", seconds, note="one split, alone on the machine")
    for name in ("whole", "compressed"):
        found = speed[name]
        numbers = f"clean accuracy {found['accuracy']:.4f}, rejection {found['rejection']:.4f}, vectors {found['vectors']}"
        limit = f"; a compiled call on 256 samples, {threads}" + ("; limit 1.5" if name == "compressed" else "")
        context.row("N1", f"DNR {name}, time of a prediction over the plain network's", found["ratio"], note=numbers + limit)


def add_compressed_rows(context, found):
    note = "one split, its first samples, this size alone; the curve also counts what smaller ones have found"
    for name, one in found.items():
        for kind, share in one["held"].items():
            what = f"DNR {name}, {ATTACKS[kind]}: not fooled at l2 {one['size']:g}"
            context.row("N1", what, share, samples=one["samples"], note=note)


def _deviation(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
