"""Whether the attack did its job: what is known to go wrong when a defense looks strong because its attacker is weak."""

import numpy as np

from tfdefense import conformal
from tfdefense.attacks.suites import standard
from tfdefense.attacks.suites.situation import ADAPTIVE
from tfdefense.reporting.sentences import failure

# Shares of the samples. A search that finds more than `MORE` beyond all others makes a number an upper bound.
LEFT = 0.1
MORE = 0.02
LITTLE = 0.05
PROGRESS = 0.9


def progress(path):
    """The share of samples whose objective is lower after the steps than before; None of none."""
    if path.shape[1] == 0:
        return None
    first, last = path[0], path[-1]
    with np.errstate(invalid="ignore"):
        return float((first - last > 1e-6 * np.maximum(1.0, np.abs(first))).mean())


def all_checks(findings, plan, max_rejected, rejects, calibrated):
    """A list of checks.

    Each has its `kind`, its `name` with the size, `passed`, what was `measured`, the `limit`, and what it means that it failed.
    """
    found = []
    for norm in plan.norms:
        found += _of_norm(findings, plan, norm)
    if rejects:
        found.append(calibration(findings["clean"], max_rejected, calibrated))
    dishonest = [entry for entry in findings["attacks"] if not entry["honest"]]
    found.append(
        _check(
            "examples are what they claim",
            "",
            not dishonest,
            len(dishonest),
            "no attack",
        )
    )
    return found


def _of_norm(findings, plan, norm):
    curve, harder, only = (
        findings["curves"][norm]["adaptive"],
        _row(findings["harder"], norm),
        _row(findings["only"], norm),
    )
    at, hard = f"{norm} {only['size']:g}", f"{norm} {harder['size']:g}"
    # The attack of a defense's authors may be blind where others see.
    attacked, missing = (
        [e for e in findings[part] if e["norm"] == norm and e["knowledge"] == "adaptive" and not e.get("authors")]
        for part in ("attacks", "left_out")
    )
    sighted = [entry["zero_gradient"] for entry in attacked if entry["sighted"]]
    zero = max(sighted + [1.0] * bool(missing), default=1.0)
    largest = curve["sizes"][-1]
    return [
        _check(
            "falls at a large size",
            f"{norm} {largest:g}",
            curve["robust_accuracy"][-1] <= LEFT,
            curve["robust_accuracy"][-1],
            f"robust accuracy of at most {LEFT:.0%}",
        ),
        *(_more(name, hard, gain, "beyond all others") for name, gain in harder["gains"].items()),
        _more("white box before black box", at, only["black box"], "by black-box attacks alone"),
        _more("many steps before one", at, only["one step"], "by one step alone"),
        _check(
            "gradients are there",
            at,
            zero <= LITTLE,
            zero,
            f"at most {LITTLE:.0%} of the samples with none",
        ),
        _check(
            "steps gain",
            at,
            harder["progress"] is not None and harder["progress"] >= PROGRESS,
            harder["progress"],
            f"at least {PROGRESS:.0%} of the samples",
        ),
    ]


def _more(kind, at, measured, what):
    return _check(kind, at, measured is not None and measured <= MORE, measured, f"success on at most {MORE:.0%} {what}")


def calibration(clean, promised, calibrated):
    low, high = _allowed(clean["samples"], promised)
    low = low if calibrated else 0.0
    return _check(
        "rejects clean samples as calibrated",
        "",
        low <= clean["rejected"] <= high,
        clean["rejected"],
        f"{low:.1%} to {high:.1%}, for at most {promised:.0%} promised",
    )


def _allowed(samples, promised, doubt=0.01):
    """Between which shares the rejected ones of so many samples lie, if as many others set the threshold.

    How many did is not known, nor whether the promise was on average or with confidence: the lower limit is that of the latter.
    """
    from scipy.stats import betabinom

    def limit(rank, tail):
        return float(betabinom.ppf(tail, samples, max(1, rank), samples + 1 - max(1, rank))) / samples

    strict, mean = conformal.rank(samples, promised, 0.95), conformal.rank(samples, promised)
    return limit(strict, doubt / 2), limit(mean, 1 - doubt / 2)


def _check(kind, at, passed, measured, limit):
    """A check that could not be made is one that failed. `text` says what it means that it failed."""
    return {
        "kind": kind,
        "name": f"{kind}, {at}" if at else kind,
        "passed": bool(passed),
        "measured": measured,
        "limit": limit,
        "text": failure(kind),
    }


def _row(rows, norm):
    return next(row for row in rows if row["norm"] == norm)


def perturbation_at(sizes, robust_accuracy, start, share=0.5):
    """The size at which robust accuracy is down to a share, on the straight line between two that were tried; None beyond.

    At a half it is the median minimal perturbation. `start` is the robust accuracy at size 0.
    """
    at, before = 0.0, start
    for size, robust in zip(sizes, robust_accuracy, strict=True):
        if robust <= share:
            return at + (size - at) * (before - share) / max(before - robust, 1e-9) if before > share else at
        at, before = size, robust
    return None


def only(outcomes, plan, samples):
    """For each norm on which share of the samples one group of attacks succeeds and another does not."""
    found = []
    for norm in plan.norms:
        wrong = {key: o.wrong for key, o in outcomes.items() if isinstance(key, tuple) and len(key) == 3 and key[2] == norm}
        none = np.zeros(samples, bool)

        def union(keep, wrong=wrong, none=none):
            return np.any([none, *(found for key, found in wrong.items() if keep(key))], axis=0)

        white = union(lambda key: key[0] == ADAPTIVE)
        several = union(lambda key: key[0] == ADAPTIVE and key[1] != standard.ONE_STEP)
        groups = {
            "black box": union(lambda key: key[0] != ADAPTIVE) & ~white,
            "one step": union(lambda key: key[1] == standard.ONE_STEP) & ~several,
        }
        found.append({"norm": norm, "size": plan.compared[norm]} | {name: float(value.mean()) for name, value in groups.items()})
    return found


def verdict(findings, plan):
    """What the numbers say, in one line, and what stands against it."""
    holds, medians = {}, {}
    for norm in plan.norms:
        curve = findings["curves"][norm]["adaptive"]
        good = [s for s, robust in zip(curve["sizes"], curve["robust_accuracy"], strict=True) if robust >= plan.holds_from]
        holds[norm] = good[-1] if good else 0.0
        medians[norm] = perturbation_at(curve["sizes"], curve["robust_accuracy"], 1 - findings["clean"]["wrong"])
    attacks = [entry for entry in findings["attacks"] if entry["knowledge"] != "oblivious"]
    # Of those with the same success rate, the one that goes least far for its norm.
    weakest = max(attacks, key=lambda entry: (entry["success_rate"], -(entry["distance"] or 0.0) / entry["size"]), default=None)
    failed = [check["name"] for check in findings["checks"] if not check["passed"]]
    clean = findings["clean"]["rejected"]
    loud = [row for row in findings["benign"] if row["rejected"] > clean + 0.2]
    holding = [f"{norm} = {size:g}" for norm, size in holds.items() if size]
    none = [norm for norm, size in holds.items() if not size]
    line = f"Holds to {' and '.join(holding)}" if holding else "Holds to none of the sizes tried"
    if holding and none:
        line += f", to none of the sizes tried in {' and '.join(none)}"
    if weakest and weakest["success_rate"] > 0:
        line += f"; weakest against {weakest['name']} ({weakest['knowledge']}, {weakest['norm']})"
    notes = []
    if failed:
        named = f" ({'; '.join(failed)})" if len(failed) < 4 else ""
        notes.append(f"{len(failed)} of {len(findings['checks'])} checks on the attack failed{named}: the sizes are upper limits.")
    if loud:
        worst = max(loud, key=lambda row: row["rejected"])
        notes.append(
            f"It rejects {worst['rejected']:.0%} of samples after a benign perturbation ({worst['what']}): that is no merit."
        )
    medians = {"median_perturbation": medians, "holds_from": plan.holds_from}
    return {"line": line + ".", "notes": notes, "holds": holds, "failed": failed} | medians
