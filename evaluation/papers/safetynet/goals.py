"""SafetyNet."""

from evaluation.papers.safetynet.fit import ALL, CONFIDENCE, EVERY_CHANGE, PLAIN
from evaluation.papers.safetynet.protocol import FOUR
from evaluation.runner.goals.goal import Goal, row

_HARDENED = f"{EVERY_CHANGE}, attacked in training"
_MORE = "Det A, C and gamma by cross-validation, 7,000 pairs"
_UNFOOLED = "not fooled, strongest of all attacks"
_NOISES = ("sign 0.1", "sign 0.2", "gaussian 0.1", "gaussian 0.2")


def _detects(what, kind, guard):
    """Of a detector that was fitted on an adversary of that kind and tested on it."""
    starts, end = tuple(f"detection accuracy, {kind}{mark}" for mark in " ,"), f", threshold 0, {guard}"
    return what.startswith(starts) and what.endswith(end) and "fitted" not in what


def _noisy(noise):
    return f"rejected, {noise}, 5 % of clean rejected"


def _known(of, kind, guard):
    return max((value for what, value in of.items() if _detects(what, kind, guard)), default=None)


def _less(what, found, one, other, remark=""):
    return Goal(f"{what}, {one} less {other}", lambda of: of[f"{found}, {one}"] - of[f"{found}, {other}"], remark=remark)


def _noisiest(of, name):
    return max(of[f"{_noisy(noise)}, {name}"] for noise in _NOISES)


def _safetynet(size, noise, remark=""):
    """Known attacks by one layer's codes, unknown ones beside the branch, what each change gave, and what the codes are worth."""
    held, rejected = f"not fooled at linf {size}", f"{noise} rejected"
    changes = (f"{ALL}, by class", f"{ALL}, harmless changes", f"{ALL}, dynamic", EVERY_CHANGE)
    others = ("branch", "Det A, activations as they are", "Det A, binary")
    return [
        *(
            Goal(
                f"detection accuracy, {kind}, {guard}, threshold 0",
                lambda of, kind=kind, guard=guard: _known(of, kind, guard),
                least=0.85,
                remark=remark,
            )
            for guard in ("Det A", _MORE)
            for kind in FOUR
        ),
        *(
            row(f"detection accuracy, mean over attacks never seen, {threshold}, {guard}")
            for threshold in ("threshold 0", "5 % of clean rejected")
            for guard in ("branch", "Det A", f"{ALL}, by class")
        ),
        *(_less(held, _UNFOOLED, name, ALL) for name in changes),
        _less(held, _UNFOOLED, ALL, "branch", "of longer and other searches `detector` reports less for its own branches"),
        *(_less(rejected, _noisy(noise), name, ALL) for name in changes),
        *(_less(rejected, _noisy(noise), name, "Det A") for name in others),
    ]


GOALS = {
    ("safetynet", "mnist"): [
        Goal("not fooled at linf 0.2, the net with every change", lambda of: of[f"{_UNFOOLED}, {EVERY_CHANGE}"], least=0.5),
        Goal(
            "the same net: the most rejected of sign and Gaussian noise up to the attack's size, threshold at 5 %",
            lambda of: _noisiest(of, EVERY_CHANGE),
            most=0.1,
        ),
        Goal(
            "not fooled at linf 0.2, that net on a network attacked in training",
            lambda of: of[f"{_UNFOOLED}, {_HARDENED}"],
            least=0.5,
        ),
        row(f"{_noisy('sign 0.1')}, {_HARDENED}", most=0.1),
        Goal("the same: the most rejected of that noise", lambda of: _noisiest(of, _HARDENED), most=0.1),
        Goal(
            "not fooled at linf 0.2, that net less its network alone",
            lambda of: of[f"{_UNFOOLED}, {_HARDENED}"] - of[f"{_UNFOOLED}, {PLAIN[1]}"],
        ),
        Goal(
            "not fooled at linf 0.2, that net less a threshold on the confidence of its network",
            lambda of: of[f"{_UNFOOLED}, {_HARDENED}"] - of[f"{_UNFOOLED}, {CONFIDENCE}"],
        ),
        *_safetynet("0.2", "sign 0.1"),
    ],
    ("safetynet", "cifar10"): _safetynet(
        "2/255", "sign 2/255", "the samples moved by one or two levels of 256, which an earlier layer shows better: see the branch"
    ),
}
