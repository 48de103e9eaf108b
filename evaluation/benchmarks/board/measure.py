"""What the board finds of each system as rows, in the order of their ranks, with intervals over samples and networks."""

import collections

import numpy as np

from evaluation.benchmarks.board.attacker import MORE

DRAWS = 2000
# Of the samples may be left without an example at any distance: another class's image is one, if nothing nearer.
LEFT = 0.1


class Draws:
    """Samples and networks drawn again and again, with replacement: the same for all systems, so that they compare in pairs.

    The samples are the same for all: what makes one hard makes it hard for all. The networks of a seed are the same for systems on
    one base; those of two bases have nothing in common, and are drawn apart.
    """

    def __init__(self, bases, seeds, samples, draws=DRAWS):
        rng = np.random.default_rng(0)
        self.rows = rng.integers(0, samples, (draws, samples))
        self.seeds = {base: rng.integers(0, seeds, (draws, seeds)) for base in bases}

    def medians(self, base, distance):
        """The median distance in each draw; `distance` has a line for each network."""
        return np.array([_median(distance[np.ix_(s, r)]) for s, r in zip(self.seeds[base], self.rows, strict=True)])

    def robust(self, base, distance, size):
        return np.array(
            [_robust(distance[np.ix_(s, r)], size) for s, r in zip(self.seeds[base], self.rows, strict=True)],
        )


def _median(distance):
    """Of all samples of all networks; an infinite one says that no example is known for half of them."""
    with np.errstate(invalid="ignore"):
        return float(np.sort(distance, None)[[(distance.size - 1) // 2, distance.size // 2]].mean())


def _robust(distance, size):
    from tfdefense.attacks.norms import within

    return float(1 - within(distance, size).mean())


def _middle(drawn):
    """Between what 95 of 100 draws lie; None is an end beyond all distances."""
    # Infinite medians of both have no difference.
    ends = np.quantile(drawn[~np.isnan(drawn)], (0.025, 0.975), method="inverted_cdf")
    return tuple(float(end) if np.isfinite(end) else None for end in ends)


def distances(measured, norm):
    """A line for each network: the distances of its samples, infinite where no example is known."""
    return np.array([[np.inf if value is None else value for value in one["each"][norm]["distance"]] for one in measured])


def place(measured):
    """What the order follows from: the median l2 distance. Where no example is known for a half the attack has failed: no rank."""
    median = _median(distances(measured, "l2"))
    return median if np.isfinite(median) else -1.0


def failed(measured):
    """Checks on the attack that failed, on all networks together that were searched harder."""
    found = []
    if any(np.mean(np.isinf(distances(measured, norm))) > LEFT for norm in measured[0]["each"]):
        found.append("an example for each sample")
    for name in dict.fromkeys(name for one in measured for name in one["checks"]):
        if np.mean([one["checks"][name] for one in measured if name in one["checks"]]) > MORE:
            found.append(name)
    if not all(one["calibrated"] for one in measured):
        found.append("rejects clean samples as calibrated")
    return tuple(found)


def add_rows(context, found, compared, sizes):
    """`found` has for each system what was measured on each of its networks."""
    first = next(iter(found.values()))
    draws = Draws(dict.fromkeys(system.base.name for system in found), len(first), len(first[0]["each"]["l2"]["distance"]))
    for system, measured in sorted(found.items(), key=lambda item: place(item[1]), reverse=True):
        _add_system(context, system, measured, draws, compared, sizes)
        context.each[", ".join(system.key)] = [one["each"] for one in measured]
    _add_comparisons(context, found, draws)


def _add_system(context, system, measured, draws, compared, sizes):
    def row(metric, value, **fields):
        context.row("board", metric, value, system=system.name, base=system.base.name, **fields)

    def mean(share):
        return float(np.mean([share(one) for one in measured]))

    flags, networks = failed(measured), len(measured)
    attack = {"attack": "worst case", "knowledge": "adaptive", "starts": "all", "n": distances(measured, "l2").size, "flags": flags}
    for norm in measured[0]["each"]:
        distance = distances(measured, norm)
        median, each = _median(distance), [_median(one) for one in distance]
        first = [name for one in measured for name in one["each"][norm]["found by"] if name]
        about = {
            "interval": _middle(draws.medians(system.base.name, distance)),
            "deviation": float(np.std(each, ddof=1)) if networks > 1 and np.isfinite(each).all() else None,
            "found_most_by": collections.Counter(first).most_common(1)[0][0] if first else None,
            "note": "" if np.isfinite(median) else "no example is known for half of the samples: the attack failed",
        }
        row("median distance", median if np.isfinite(median) else None, norm=norm, **attack, **about)
        shown = dict.fromkeys((0, *sizes.get(norm, ()), *([compared[norm]] if norm in compared else [])))
        for size in sorted(shown):
            share = float(np.mean(distance > 0)) if size == 0 else _robust(distance, size)
            fields = {"compared": True} if size == compared.get(norm) else {}
            if fields:
                fields["interval"] = _middle(draws.robust(system.base.name, distance, size))
            if norm == "linf" and fields and (system.name, system.base.name) == ("dustbin", "jointly trained"):
                fields["row"] = "O9"
            row("robust accuracy", share, norm=norm, epsilon=size, **attack, **fields)
    row("accuracy", mean(lambda one: one["clean"]["right"]))
    row("accuracy", mean(lambda one: one["clean"]["before_rejection"]), counted="before rejection")
    row("false-positive rate", mean(lambda one: one["clean"]["rejected"]))
    row("false-positive rate", mean(lambda one: max(each["rejected"] for each in one["benign"])), perturbation="worst case")
    if all("noise" in one for one in measured):
        size = measured[0]["noise"]["size"]
        row("false-positive rate", mean(lambda one: one["noise"]["rejected"]), perturbation="random signs", epsilon=size)
    if all("forced" in one for one in measured):
        _add_cost(row, measured, compared, context.dataset)
    for number, one in enumerate(measured[0]["ood"]):
        row("rejection rate", mean(lambda each, number=number: each["ood"][number]["rejected"]), ood=one["what"])


def _add_cost(row, measured, compared, dataset):
    """What rejection may cost in l2: forced rejections, the stratified error, and what the claim would imply."""
    from tfdefense import metrics
    from tfdefense.reporting.forced import ALPHAS

    norm = measured[0]["forced"]["norm"]
    if norm not in compared:
        return
    size, evaded = compared[norm], distances(measured, norm).ravel()
    forced = np.array([np.inf if value is None else value for one in measured for value in one["forced"]["distance"]])
    right = np.array([value for one in measured for value in one["forced"]["right"]])
    about = {"norm": norm, "n": len(forced), "attack": "forced rejection", "knowledge": "adaptive"}
    if right.any():
        at = [share * size for share in ALPHAS]
        for epsilon, rate in zip(at, metrics.forced_rejection(forced, right, at), strict=True):
            row("forced rejection rate", float(rate), epsilon=epsilon, **about)
    for alpha, error in zip(ALPHAS, metrics.stratified_error(evaded, forced, size, ALPHAS), strict=True):
        row("stratified error", float(error), epsilon=size, alpha=alpha, **about)
    claim = metrics.plausibility(dataset, norm, size, float((right & (evaded > size)).mean()))
    row(
        "implied robust accuracy",
        claim.implied,
        norm=norm,
        epsilon=claim.size,
        n=len(forced),
        paper=claim.record,
        source=claim.source,
    )


def _add_comparisons(context, found, draws):
    """How much larger a system's median l2 distance is than that of the one it is compared with."""
    by_key = {system.key: (system, measured) for system, measured in found.items()}
    for system, measured in found.items():
        if system.over not in by_key:
            continue
        over, other = by_key[system.over]
        one, two = distances(measured, "l2"), distances(other, "l2")
        if not (np.isfinite(_median(one)) and np.isfinite(_median(two))):
            continue
        with np.errstate(invalid="ignore"):
            drawn = draws.medians(system.base.name, one) - draws.medians(over.base.name, two)
        # A system on which an attack failed looks the better for it.
        about = {"system": system.name, "base": system.base.name, "over": over.name, "over_base": over.base.name, "norm": "l2"}
        about |= {"interval": _middle(drawn), "n": one.size, "flags": tuple(dict.fromkeys((*failed(measured), *failed(other))))}
        context.row("board.comparison", "distance difference", _median(one) - _median(two), **about)
