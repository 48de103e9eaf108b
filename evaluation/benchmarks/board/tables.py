"""The rows of the board `evaluation/ranking.py`: ranks, what stands against them, and comparisons in pairs of samples."""

import collections

import numpy as np

BASES = ("plain", "attacked", "joined", "joined, attacked")
HEADINGS = {"what": "system", "ours": "half fooled at l2", "between": "l2 interval (95 %)"}
# A check that fails where rejection is a plateau: told apart from the others, and no less a reason for doubt.
_PLATEAU = "first start before others"
DRAWS = 2000


def place(measured):
    """What the order follows from: the l2 size at which half are fooled, then how many hold at the sizes tried.

    Nothing can hold at the last size: where half stand there the attack has failed, which is no rank before the others.
    """
    half = measured["verdict"]["halves"]["l2"]
    return (-1.0 if half is None else half, np.mean(measured["curves"]["l2"]["adaptive"]["held"]))


def interval(measured, number):
    """Where the curve crosses the shares that so few samples cannot tell from a half: about 95 % of the sizes found lie between."""
    from tfdefense.reporting.checks import half

    curve, start = measured["curves"]["l2"]["adaptive"], 1 - measured["clean"]["wrong"]
    ends = [half(curve["sizes"], curve["held"], start, 0.5 + side * 0.98 / number**0.5) for side in (1, -1)]
    return " to ".join(f"beyond {curve['sizes'][-1]:g}" if end is None else f"{end:.2f}" for end in ends)


def add_rows(context, found, number):
    """`found` has what was measured by pairs of a system's name and the number of its base."""
    context.headings.update(HEADINGS)
    ordered = sorted(found.items(), key=lambda item: place(item[1]), reverse=True)
    for rank, ((system, base), measured) in enumerate(ordered, 1):
        half = measured["verdict"]["halves"]["l2"]
        context.row(
            "ranking",
            system,
            half,
            samples=number,
            note=". ".join(_notes(measured)),
            rank=None if half is None else rank,
            between=interval(measured, number),
            base=BASES[base],
            **_columns(measured),
        )
        name, curve, distance = f"{system}, {BASES[base]}", measured["curves"]["l2"]["adaptive"], measured["each"]["l2"]["distance"]
        context.curve("ranking", name, [0, *curve["sizes"]], [float(np.mean([d != 0 for d in distance])), *curve["held"]])
        context.each[name] = measured["each"]
        if (system, BASES[base]) == ("dustbin", "joined") and "linf" in measured["compared"]:
            size = measured["compared"]["linf"]
            note = "the strongest of all attacks for each sample; trained with reverse cross-entropy, threshold at 5 %"
            held = _at(measured, "linf", size, "held")
            context.row("O9", f"dustbin under white-box attacks: not fooled at linf {size:g}", held, samples=number, note=note)
    _add_comparisons(context, found, number)


def _at(measured, norm, size, name):
    curve = measured["curves"][norm]["adaptive"]
    return curve[name][curve["sizes"].index(size)]


def _columns(measured):
    clean, sizes = measured["clean"], measured["compared"].items()
    first = [name for name in measured["each"]["l2"]["found by"] if name]
    return {
        "clean right": clean["right"],
        "right before rejection": clean["before_rejection"],
        "clean rejected": clean["rejected"],
        **{f"not fooled at {norm} {size:g}": _at(measured, norm, size, "held") for norm, size in sizes},
        **{f"rejected at {norm} {size:g}": _at(measured, norm, size, "rejected") for norm, size in sizes},
        "half fooled at linf": measured["verdict"]["halves"].get("linf"),
        "most harmless rejected": max(row["rejected"] for row in measured["harmless"]),
        **{f"{row['what']} rejected": row["rejected"] for row in measured["foreign"]},
        "nearest in l2 found most by": collections.Counter(first).most_common(1)[0][0] if first else None,
    }


def _notes(measured):
    verdict, notes = measured["verdict"], []
    if verdict["halves"]["l2"] is None:
        notes.append(f"half stand at l2 {measured['sizes'][-1]:g}, where nothing can: the attack failed, no rank")
    doubts = [name for name in verdict["failed"] if not name.startswith(_PLATEAU)]
    plateaus = [name for name in verdict["failed"] if name not in doubts]
    notes += [f"checks that failed: {'; '.join(doubts)}"] if doubts else []
    return notes + ([f"checks that failed, as from a plateau they must: {'; '.join(plateaus)}"] if plateaus else [])


def _add_comparisons(context, found, number):
    """Whether combinations hold longer than their parts, and defenses longer than training alone."""
    undefended = {key for key in found if key[0] == "no defense"}
    combined = {key for key in found if " + " in key[0]}
    attacked = {key for key in found if BASES[key[1]].endswith("attacked")}
    single, others = set(found) - undefended - combined, set(found) - attacked
    pairs = {
        "best combination less best single defense": (combined, single),
        "best combination less best single defense, bases trained against PGD": (combined & attacked, single & attacked),
        "best combination less best single defense, other bases": (combined - attacked, single - attacked),
        "best defense less none, bases trained against PGD": (attacked - undefended, attacked & undefended),
        "best defense less none, other bases": (others - undefended, others & undefended),
        "training against PGD alone less the best defense without": (attacked & undefended, others - undefended),
    }
    for what, sides in pairs.items():
        if not all(sides):
            continue
        one, other = (max(sorted(side), key=lambda key: place(found[key])) for side in sides)
        mean, low, high = difference(found[one], found[other])
        names = {key: f"{key[0]} ({BASES[key[1]]})" for key in (one, other)}
        note = f"{names[one]} less {names[other]}, each the best of its kind on these very samples; of one network a base: "
        note += "training anew may change it"
        # A system on which an attack failed looks the better for it, and is the sooner taken for the best.
        doubted = [names[key] for key in (one, other) if "checks that failed" in ". ".join(_notes(found[key]))]
        note += f". Checks that failed on {' and '.join(doubted)}: upper limits" if doubted else ""
        context.row("comparison", what, mean, samples=number, note=note, between=f"{low:.2f} to {high:.2f}")


def difference(one, other):
    """How much larger the l2 size is at which half are fooled, and between what it lies in 95 of 100 draws of these samples."""
    from tfdefense.attacks.norms import within
    from tfdefense.reporting.checks import half

    sizes, distances = one["sizes"], [_distances(measured) for measured in (one, other)]

    def reached(distance):
        held = [float(1 - within(distance, size).mean()) for size in sizes]
        size = half(sizes, held, float((distance > 0).mean()))
        return sizes[-1] if size is None else size

    def less(rows):
        return reached(distances[0][rows]) - reached(distances[1][rows])

    # The samples of both are the same: what makes one hard makes it hard for both, and is drawn for both.
    count, rng = len(distances[0]), np.random.default_rng(0)
    drawn = [less(rng.integers(0, count, count)) for _ in range(DRAWS)]
    return less(np.arange(count)), *np.quantile(drawn, (0.025, 0.975)).tolist()


def _distances(measured):
    return np.array([np.inf if value is None else value for value in measured["each"]["l2"]["distance"]])
