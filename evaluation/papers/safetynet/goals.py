"""SafetyNet: what it was meant to show, and its lines in docs/results/defenses.md."""

from evaluation.papers.safetynet.fit import ALL, CONFIDENCE, EVERY_CHANGE, MORE, PLAIN, TRAINED, fields
from evaluation.papers.safetynet.measure import PAPERS, THRESHOLDS
from evaluation.papers.safetynet.protocol import UNSEEN
from evaluation.papers.safetynet.tables import generalises, known
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

# By data set: the size of the attacks, and noise of the kind "sign", on MNIST half as large. Results have six digits.
_SIZES = {"mnist": ("0.2", "sign 0.1", 0.1), "cifar10": ("2/255", "sign 2/255", round(2 / 255, 8))}
_ATTACKS = (("FGSM", "linf"), ("BIM", "linf"), ("BIM", "l2"), ("DeepFool", "l2"))


def _robust(of, name):
    return of(table="lu2017.ours.worst_case", attack="worst case", over=None, **fields(name))


def _rejected(of, name, perturbation="", size=None):
    about = {"threshold": "5 % FPR", "perturbation": perturbation, "epsilon": size}
    return of(metric="false-positive rate", row="S5", **about, **fields(name))


def _noisiest(of, name):
    return max(_rejected(of, name, kind, size) for kind in ("sign", "gaussian") for size in (0.1, 0.2))


def _known(of, name, attack, norm):
    return known(of, threshold="0", attack=attack, norm=norm, **fields(name))[0].value


def _less(what, value, one, other, remark=""):
    return Goal(f"{what}, {one} less {other}", lambda of: value(of, one) - value(of, other), remark=remark)


def _unseen(name, threshold):
    about = fields(name) | {"attack": UNSEEN, "fitted_on": None, "threshold": threshold}
    return Goal(f"detection accuracy, {UNSEEN}, threshold {threshold}, {name}", lambda of: of(**about))


_FIGURE_2_C = {
    "0": "",
    "5 % FPR": "the branch knows unseen attacks too, but its threshold of 0 is in the wrong place for them",
}


def _figure_2_c(threshold, remark):
    """The paper: codes of one layer detect attacks that they were not fitted on better than the branch does."""

    def ahead(of):
        found = generalises(of, threshold)
        return found["Det A"] - found["branch"]

    what = f"figure 2 C: detection accuracy, {UNSEEN}, fitted on BIM linf, threshold {threshold}, Det A less branch"
    return Goal(what, ahead, least=1e-6, remark=remark or _FIGURE_2_C[threshold])


def _papers(of, name, threshold=(None, "5 % FPR")):
    """The error rate under the paper's own attack of type II."""
    about = {"attack": PAPERS.attack, "starts": PAPERS.starts, "threshold": threshold}
    return of(table="lu2017.table4", **about, **fields(name))


def _at_zero(name):
    what = f"error rate, type II of the paper at its rule f(c) > 0, branch less {name}"

    def less(of):
        # Results of before that rule was measured have no such rows.
        return (
            _papers(of, "branch", "0") - _papers(of, name, "0")
            if of.all(table="lu2017.table4", threshold="0", starts="sample")
            else None
        )

    return Goal(what, less, remark="above 0 codes stop more than the branch does, as the paper finds")


def _goals(dataset, remark=""):
    """Known attacks by one layer's codes, unknown ones beside the branch, what each change gave, and what the codes are worth."""
    size, noise, length = _SIZES[dataset]
    right, noisy = f"robust accuracy at linf {size}, worst case over all attacks", f"{noise} rejected"
    changes = (f"{ALL}, by class", f"{ALL}, benign perturbations", f"{ALL}, dynamic", EVERY_CHANGE)

    def detected(name, *attack):
        what = f"detection accuracy, {' '.join(attack)}, {name}, threshold 0"
        return Goal(what, lambda of: _known(of, name, *attack), least=0.85, remark=remark)

    def rejected(of, name):
        return _rejected(of, name, "sign", length)

    return [
        *(detected(name, *attack) for name in ("Det A", MORE) for attack in _ATTACKS),
        *(_figure_2_c(threshold, remark) for threshold in THRESHOLDS),
        *(_at_zero(name) for name in ("Det A", ALL)),
        *(_unseen(name, threshold) for threshold in THRESHOLDS for name in ("branch", "Det A", f"{ALL}, by class")),
        *(_less(right, _robust, name, ALL) for name in changes),
        _less(right, _robust, ALL, "branch", "of longer and other searches `detector` reports less for its own branches"),
        *(_less(noisy, rejected, name, ALL) for name in changes),
        *(_less(noisy, rejected, name, "Det A") for name in ("branch", "Det A, activations as they are", "Det A, binary")),
    ]


_TRAINED = f"{EVERY_CHANGE}{TRAINED}"
_RIGHT = "robust accuracy at linf 0.2, {}".format
GOALS = {
    ("safetynet", "mnist"): [
        Goal(_RIGHT("the net with every change"), lambda of: _robust(of, EVERY_CHANGE), least=0.5),
        Goal(
            "the same net: the most rejected of sign and Gaussian noise up to the attack's size, threshold at 5 % FPR",
            lambda of: _noisiest(of, EVERY_CHANGE),
            most=0.1,
        ),
        Goal(_RIGHT("that net on an adversarially trained network"), lambda of: _robust(of, _TRAINED), least=0.5),
        Goal("sign 0.1 rejected by it, threshold at 5 % FPR", lambda of: _rejected(of, _TRAINED, "sign", 0.1), most=0.1),
        Goal("the same: the most rejected of that noise", lambda of: _noisiest(of, _TRAINED), most=0.1),
        Goal(_RIGHT("that net less its network alone"), lambda of: _robust(of, _TRAINED) - _robust(of, PLAIN[1])),
        Goal(
            _RIGHT("that net less a threshold on the confidence of its network"),
            lambda of: _robust(of, _TRAINED) - _robust(of, CONFIDENCE),
        ),
        *_goals("mnist"),
    ],
    ("safetynet", "cifar10"): _goals(
        "cifar10", "the samples moved by one or two levels of 256, which an earlier layer shows better: see the branch"
    ),
}


def _line(defense, dataset, name, network=PLAIN[0], beside="no defense"):
    size, noise, length = _SIZES[dataset]

    return Line(
        defense,
        f"safetynet-{dataset}",
        f"PGD, linf {size}, from the sample",
        lambda of: (1 - _papers(of, name), 1 - _papers(of, network)),
        "worst case over white-box and black-box attacks",
        lambda of: (_robust(of, name), _robust(of, network)),
        beside,
        lambda of: _rejected(of, name),
        lambda of: _rejected(of, name, "sign", length),
        noise,
    )


LINES = [
    _line("SafetyNet, one layer", "mnist", "Det A"),
    _line("SafetyNet, every change", "mnist", EVERY_CHANGE),
    _line("the same on an adversarially trained network", "mnist", _TRAINED, PLAIN[1], "that network"),
    _line("a confidence threshold on that network", "mnist", CONFIDENCE, PLAIN[1], "that network"),
    _line("SafetyNet, one layer", "cifar10", "Det A"),
]
