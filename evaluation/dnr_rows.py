"""The rows of `evaluation/dnr.py`."""

import numpy as np

from evaluation.dnr import ATTACKS, METHODS


def add_clean_rows(context, clean):
    for method, found in clean.items():
        for name in ("accuracy", "rejection") if method != "DNN" else ("accuracy",):
            values = [run[name] for run in found]
            context.row(
                "N3" if name == "rejection" else "N5",
                f"{method}, clean {name}",
                float(np.mean(values)),
                std=_deviation(values),
                samples=found[0]["samples"],
            )


def add_curve_rows(context, curves, zeros, plan, number):
    for kind, told in ATTACKS.items():
        for method in METHODS:
            curve = curves[kind][method]
            what = f"{method}, {told}"
            for of in ("accuracy", "rejection") if method != "DNN" else ("accuracy",):
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
            context.row("N4", f"{what}: largest share without a gradient", zeros[kind][method], samples=number)
        low, high = plan.ordered
        inside = (curves[kind]["DNR"].sizes >= low) & (curves[kind]["DNR"].sizes <= high)
        accuracy = {method: curves[kind][method].accuracy[inside] for method in METHODS}
        context.row(
            "N5",
            f"{told}: DNR at or above NR and NR above DNN for l2 {low:g} to {high:g}",
            bool((accuracy["DNR"] >= accuracy["NR"]).all() and (accuracy["NR"] > accuracy["DNN"]).all()),
            paper=True if kind == "paper" else None,
            samples=number,
        )


def add_speed_rows(context, speed):
    for method, seconds in speed["seconds"].items():
        context.row("N2", f"{method}, seconds to fit", seconds, note="one split, alone on the machine")
    for name in ("whole", "compressed"):
        found = speed[name]
        numbers = f"clean accuracy {found['accuracy']:.4f}, rejection {found['rejection']:.4f}, vectors {found['vectors']}"
        limit = "; limit 1.5" if name == "compressed" else ""
        context.row("N1", f"DNR {name}, time of a prediction over the plain network's", found["ratio"], note=numbers + limit)


def add_compressed_rows(context, found):
    for name, held in found["held"].items():
        for kind, share in held.items():
            what = f"DNR {name}, {ATTACKS[kind]}: not fooled at l2 {found['size']:g}"
            context.row("N1", what, share, samples=found["samples"])


def _deviation(values):
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
