"""SafetyNet."""

from evaluation.goals.goal import Goal, row

_ABC = "Det A or B or C"
_EVERY_CHANGE = f"{_ABC}, by class, dynamic, harmless changes"
# Of more samples than all attacks were tried on; none of them falls to a black box alone.
_UNFOOLED = "not fooled, strongest white-box attack for each sample"
_KINDS = ("fast", "iterative linf", "iterative l2", "DeepFool l2")


def _detects(what, kind):
    """Of Det A, fitted on an adversary of that kind and tested on it."""
    starts, end = tuple(f"detection accuracy, {kind}{mark}" for mark in " ,"), ", threshold 0, Det A"
    return what.startswith(starts) and what.endswith(end) and "fitted" not in what


def _noisy(noise):
    return f"rejected, {noise}, 5 % of clean rejected"


def _known(of, kind):
    return max((value for what, value in of.items() if _detects(what, kind)), default=None)


def _less(what, found, one, other, remark=""):
    return Goal(f"{what}, {one} less {other}", lambda of: of[f"{found}, {one}"] - of[f"{found}, {other}"], remark=remark)


def _safetynet(size, noise):
    """Known attacks by one layer's codes, unknown ones beside the branch, what each change gave, and what the codes are worth."""
    held, rejected = f"not fooled at linf {size}", f"{noise} rejected"
    longer = "of longer and other searches `detector` reports less for its own branches"
    changes = (f"{_ABC}, by class", f"{_ABC}, harmless changes", f"{_ABC}, dynamic", _EVERY_CHANGE)
    others = ("branch", "Det A, activations as they are", "Det A, binary")
    return [
        *(
            Goal(f"detection accuracy, {kind}, Det A, threshold 0", lambda of, kind=kind: _known(of, kind), least=0.85)
            for kind in _KINDS
        ),
        *(
            row(f"detection accuracy, mean over attacks never seen, {threshold}, {guard}")
            for threshold in ("threshold 0", "5 % of clean rejected")
            for guard in ("branch", "Det A", f"{_ABC}, by class")
        ),
        *(_less(held, _UNFOOLED, name, _ABC) for name in changes),
        _less(held, _UNFOOLED, _ABC, "branch", longer),
        *(_less(rejected, _noisy(noise), name, "Det A") for name in others),
    ]


GOALS = {
    ("safetynet", "mnist"): [
        Goal(
            "not fooled at linf 0.2, strongest white-box attack for each sample, the net with every change",
            lambda of: of[f"{_UNFOOLED}, {_EVERY_CHANGE}"],
            least=0.5,
            remark="straight-through and smoothed searches from every start find what the codes let pass; codes matched by class "
            "help most, the other changes by no more than a few samples; no sample falls to a black box alone",
        ),
        Goal(
            "the same net: the most rejected of sign and Gaussian noise up to the attack's size, threshold at 5 %",
            lambda of: max(
                of[f"{_noisy(noise)}, {_EVERY_CHANGE}"] for noise in ("sign 0.1", "sign 0.2", "gaussian 0.1", "gaussian 0.2")
            ),
            most=0.1,
            remark="of noise of half the attack's size 5 to 6 %, of as large noise 15 to 16 %, though sign noise of it was learnt",
        ),
        *_safetynet("0.2", "sign 0.1"),
    ],
    ("safetynet", "cifar10"): _safetynet("2/255", "sign 4/255"),
}
