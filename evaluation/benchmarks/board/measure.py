"""What the board finds of each system as rows, in the order of their ranks, and comparisons in pairs of samples."""

import collections

import numpy as np

# What is compared: the best of some systems on some bases, less the best of others.
SYSTEMS = {
    "no defense": lambda system: system.make is None,
    "defenses": lambda system: system.make is not None,
    "single defenses": lambda system: system.make is not None and not system.combined,
    "combinations": lambda system: system.combined,
}
BASES = {
    "all": lambda base: True,
    "adversarially trained": lambda base: base.adversarial,
    "others": lambda base: not base.adversarial,
}
COMPARED = (
    *((("combinations", bases), ("single defenses", bases)) for bases in BASES),
    (("defenses", "adversarially trained"), ("no defense", "adversarially trained")),
    (("defenses", "others"), ("no defense", "others")),
    (("no defense", "adversarially trained"), ("defenses", "others")),
)
DRAWS = 2000


def place(measured):
    """What the order follows from: the median l2 distance, then the mean robust accuracy over the sizes tried.

    Nothing can hold at the last size: where half stand there the attack has failed, which is no rank before the others.
    """
    median = measured["verdict"]["median_perturbation"]["l2"]
    return (-1.0 if median is None else median, np.mean(measured["curves"]["l2"]["adaptive"]["robust_accuracy"]))


def interval(measured, number):
    """Where the curve crosses the shares that so few samples cannot tell from a half: about 95 % of the sizes found lie between.

    None is an end beyond the sizes that were tried.
    """
    from tfdefense.reporting.checks import perturbation_at

    curve, start = measured["curves"]["l2"]["adaptive"], 1 - measured["clean"]["wrong"]
    return tuple(
        perturbation_at(curve["sizes"], curve["robust_accuracy"], start, 0.5 + side * 0.98 / number**0.5) for side in (1, -1)
    )


def add_rows(context, found, number):
    """`found` has what was measured by pairs of a system and its base."""
    for (system, base), measured in sorted(found.items(), key=lambda item: place(item[1]), reverse=True):
        _add_system(context, system.name, base.name, measured, number)
        context.each[f"{system.name}, {base.name}"] = measured["each"]
    _add_comparisons(context, found, number)


def _add_system(context, system, base, measured, number):
    def row(metric, value, **fields):
        context.row("board", metric, value, system=system, base=base, **fields)

    clean, medians = measured["clean"], measured["verdict"]["median_perturbation"]
    attack = {"attack": "worst case", "knowledge": "adaptive", "starts": "all", "n": number}
    first = [name for name in measured["each"]["l2"]["found by"] if name]
    about = {
        "found_most_by": collections.Counter(first).most_common(1)[0][0] if first else None,
        "interval": interval(measured, number),
        "flags": _failed(measured),
        "note": "half stand at the largest size, where nothing can: the attack failed" if medians["l2"] is None else "",
    }
    row("median distance", medians["l2"], norm="l2", **attack, **about)
    if "linf" in medians:
        note = "" if medians["linf"] is not None else "half stand at the largest size"
        row("median distance", medians["linf"], norm="linf", **attack, note=note)
    row("accuracy", clean["right"])
    row("accuracy", clean["before_rejection"], counted="before rejection")
    row("false-positive rate", clean["rejected"])
    row("false-positive rate", max(one["rejected"] for one in measured["benign"]), perturbation="worst case")
    for one in measured["ood"]:
        row("rejection rate", one["rejected"], ood=one["what"])
    distance = np.array([np.nan if one is None else one for one in measured["each"]["l2"]["distance"]])
    row("robust accuracy", float(np.mean(distance != 0)), norm="l2", epsilon=0, **attack)
    for norm, curves in measured["curves"].items():
        curve, size = curves["adaptive"], measured["compared"].get(norm)
        for epsilon, share in zip(curve["sizes"], curve["robust_accuracy"], strict=True):
            if norm == "l2" or epsilon == size:
                whitebox = norm == "linf" and (system, base) == ("dustbin", "jointly trained")
                row("robust accuracy", share, norm=norm, epsilon=epsilon, **attack, row="O9" if whitebox else "")
        if size is not None:
            row("rejection rate", curve["rejected"][curve["sizes"].index(size)], norm=norm, epsilon=size, **attack)


def _failed(measured):
    """Checks on the attack that failed, in one norm or several."""
    return tuple(dict.fromkeys(check["kind"] for check in measured["checks"] if not check["passed"]))


def _add_comparisons(context, found, number):
    """Whether combinations hold longer than their parts, and defenses longer than training alone."""
    # Of equals the first by name.
    ordered = sorted(found, key=lambda key: key[0].name)
    for better, other in COMPARED:
        sides = [[key for key in ordered if SYSTEMS[one](key[0]) and BASES[on](key[1])] for one, on in (better, other)]
        if not all(sides):
            continue
        one, over = (max(side, key=lambda key: place(found[key])) for side in sides)
        mean, low, high = difference(found[one], found[over])
        # A system on which an attack failed looks the better for it, and is the sooner taken for the best.
        flags = tuple(dict.fromkeys((*_failed(found[one]), *_failed(found[over]))))
        about = {"system": one[0].name, "base": one[1].name, "among": better[0], "bases": better[1]}
        about |= {"over": over[0].name, "over_base": over[1].name, "over_among": other[0], "over_bases": other[1]}
        about |= {"interval": (low, high), "n": number, "flags": flags}
        context.row("board.comparison", "distance difference", mean, norm="l2", **about)


def difference(one, other):
    """How much larger the median l2 distance is, and between what it lies in 95 of 100 draws of these samples."""
    from tfdefense.attacks.norms import within
    from tfdefense.reporting.checks import perturbation_at

    sizes, distances = one["sizes"], [_distances(measured) for measured in (one, other)]

    def reached(distance):
        robust = [float(1 - within(distance, size).mean()) for size in sizes]
        size = perturbation_at(sizes, robust, float((distance > 0).mean()))
        return sizes[-1] if size is None else size

    def less(rows):
        return reached(distances[0][rows]) - reached(distances[1][rows])

    # The samples of both are the same: what makes one hard makes it hard for both, and is drawn for both.
    count, rng = len(distances[0]), np.random.default_rng(0)
    drawn = [less(rng.integers(0, count, count)) for _ in range(DRAWS)]
    return less(np.arange(count)), *np.quantile(drawn, (0.025, 0.975)).tolist()


def _distances(measured):
    return np.array([np.inf if value is None else value for value in measured["each"]["l2"]["distance"]])
