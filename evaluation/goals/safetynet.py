"""SafetyNet."""

from evaluation.goals.goal import Goal, row

_ABC = "Det A or B or C"
_EVERY_CHANGE = f"{_ABC}, by class, dynamic, harmless changes"
_NOISE = ("sign 0.1", "sign 0.2", "gaussian 0.1", "gaussian 0.2")
# Of more samples than all attacks were tried on; none of them falls to a black box alone.
_UNFOOLED = "not fooled, strongest white-box attack for each sample"
_NOISY = "rejected, sign 0.1, 5 % of clean rejected"
# What each change gave, and what the codes are worth.
_CODES = (
    *(("not fooled at linf 0.2", _UNFOOLED, name, _ABC) for name in (f"{_ABC}, by class", f"{_ABC}, harmless changes")),
    *(("not fooled at linf 0.2", _UNFOOLED, name, _ABC) for name in (f"{_ABC}, dynamic", _EVERY_CHANGE)),
    ("not fooled at linf 0.2", _UNFOOLED, _ABC, "branch"),
    ("sign noise of 0.1 rejected", _NOISY, "branch", "Det A"),
    ("sign noise of 0.1 rejected", _NOISY, "Det A, activations as they are", "Det A"),
    ("sign noise of 0.1 rejected", _NOISY, "Det A, binary", "Det A"),
)


def _detects(what, kind):
    """Of Det A, fitted on an adversary of that kind and tested on it."""
    starts, end = tuple(f"detection accuracy, {kind}{mark}" for mark in " ,"), ", threshold 0, Det A"
    return what.startswith(starts) and what.endswith(end) and "fitted" not in what


GOALS = {
    ("safetynet", "mnist"): [
        *(
            Goal(
                f"detection accuracy, {kind}, Det A, threshold 0",
                lambda of, kind=kind: max((v for what, v in of.items() if _detects(what, kind)), default=None),
                least=0.85,
            )
            for kind in ("fast", "iterative linf", "iterative l2", "DeepFool l2")
        ),
        Goal(
            "not fooled at linf 0.2, strongest white-box attack for each sample, the net with every change",
            lambda of: of[f"{_UNFOOLED}, {_EVERY_CHANGE}"],
            least=0.5,
            remark="straight-through and smoothed searches from every start find what the codes let pass; codes matched by class "
            "help most, the other changes by no more than a few samples; no sample falls to a black box alone",
        ),
        Goal(
            "the same net: the most rejected of sign and Gaussian noise up to the attack's size, threshold at 5 %",
            lambda of: max(of[f"rejected, {noise}, 5 % of clean rejected, {_EVERY_CHANGE}"] for noise in _NOISE),
            most=0.1,
            remark="of noise of half the attack's size 5 to 6 %, of as large noise 15 to 16 %, though sign noise of it was learnt",
        ),
        *(
            row(f"detection accuracy, mean over attacks never seen, {threshold}, {guard}")
            for threshold in ("threshold 0", "5 % of clean rejected")
            for guard in ("branch", "Det A", f"{_ABC}, by class")
        ),
        *(
            Goal(
                f"{what}, {one} less {other}",
                lambda of, what=found, a=one, b=other: of[f"{what}, {a}"] - of[f"{what}, {b}"],
                remark="of longer and other searches `detector` reports less for its own branches" if other == "branch" else "",
            )
            for what, found, one, other in _CODES
        ),
    ],
}
