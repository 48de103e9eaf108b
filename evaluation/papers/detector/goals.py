"""What the detector branch was meant to show, and its lines in the README."""

from evaluation.papers.detector.settings import CALIBRATED, HALF
from evaluation.runner.benign import size_text
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

_DETECTION, _ADAPTIVE, _BENIGN = "detection accuracy", "metzen2017.ours.adaptive", "metzen2017.ours.benign"
_COMPARED = ("static", "dynamic", "static with benign perturbations", "dynamic with benign perturbations")
_HELD = {
    "least": 0.75,
    "remark": "the searches have other objectives and other starts than the adversary that it was trained against, whose rows are "
    "below, and so are those of a branch trained against a mixture",
}
_LESS = "a third of the paper's maps, a quarter of its samples and a third of its epochs; the larger sizes are in the tables"
_STAGED = (
    "a third of the paper's maps; of its steps a fifth at this size, against an adversary who makes half of his; the larger sizes, "
    "which it began with, are in the tables"
)


def _stored(size):
    """With the digits that results have."""
    return float(f"{size:.6g}")


def _under(limit):
    return lambda of: of(metric=_DETECTION, statistic="minimum", accuracy_under=limit)


def _one_branch(of):
    """At its worst over the five and over all that work, the better of the two that are tried."""
    least = {}
    for row in of.all(table="metzen2017.ours.one_branch", statistic="minimum"):
        if row.value is not None:
            least[row.get("fitted on")] = min(row.value, least.get(row.get("fitted on"), 1.0))
    return max(least.values())


def _but_the_smallest(of):
    """By its own branch each, of all adversaries but the iterative one at the smallest size in l2, as in the paper."""
    own = [row for row in of.all(table="metzen2017.fig6", metric=_DETECTION) if row.attack]
    smallest = min(row.epsilon for row in own if (row.attack, row.norm) == ("BIM", "l2"))
    return min(row.value for row in own if (row.attack, row.norm, row.epsilon) != ("BIM", "l2", smallest))


def _worst_case(detector, size):
    return lambda of: of(table=_ADAPTIVE, attack="worst case over attacks", detector=detector, epsilon=_stored(size))


def _rejected(detector, noise=None, threshold=CALIBRATED):
    """Of clean samples, or of those under sign noise."""
    change = {"perturbation": "sign", "epsilon": _stored(noise)} if noise else {"perturbation": ""}
    return lambda of: of(table=_BENIGN, detector=detector, threshold=threshold, **change)


def _detector(size, noise, trained, compared=_COMPARED, less="", staged=""):
    """Of the detector branches under the paper's adversaries, the dynamic one, all adaptive attacks and benign noise.

    Args:
        trained: The size at which the dynamic ones were trained.
        less, staged: Why they fall short where less than the paper's branches were trained.
    """

    def sigma(name):
        return lambda of: of(metric=_DETECTION, statistic="minimum", detector=name, epsilon=_stored(trained))

    transferred = {"table": "metzen2017.fig4", "fitted_on": "BIM linf", "attack": "FGSM"}
    adversaries = "least detection accuracy over adversaries that take accuracy under {}, each by its own branch".format
    best = "least detection accuracy of the five and of all that work, by one branch, the better of two"
    met = {name: {"least": 0.7, "remark": staged} if name == "dynamic" else {} for name in compared}
    held = {name: _HELD if name == "dynamic" and not less else {} for name in compared}
    return [
        Goal(adversaries(0.3), _under(0.3), least=0.8, remark=less),
        *([Goal(adversaries(0.1), _under(0.1), least=0.9, remark=less)] if less else []),
        Goal(best, _one_branch, least=0.85, remark=less),
        Goal("fitted on BIM linf, tested on FGSM, each at the size chosen for it", lambda of: of(**transferred), least=0.85),
        *(Goal(f"least detection accuracy over sigma, {name}", sigma(name), **met[name]) for name in compared),
        Goal(
            "false-positive rate at a probability of 0.5, dynamic", _rejected("dynamic", threshold=HALF), most=0.05, remark=staged
        ),
        *(
            Goal(f"robust accuracy, worst case, linf {size_text(size)}, {name}", _worst_case(name, size), **held[name])
            for name in compared
        ),
        *(Goal(f"benign sign noise of {size_text(noise)} rejected, {name}", _rejected(name, noise)) for name in compared),
    ]


GOALS = {
    ("detector", "mnist"): _detector(0.2, 0.1, 0.2, (*_COMPARED, "dynamic, against a mixture")),
    ("detector", "cifar10"): _detector(2 / 255, 2 / 255, 1 / 255, less=_LESS, staged=_STAGED),
    ("detector", "imagenette_small"): [
        Goal(
            "least detection accuracy, each by its own branch, but of BIM l2 400/255, where the paper's is at chance",
            _but_the_smallest,
            least=0.85,
            remark="a small network and 1,500 pictures in place of VGG16 and 10,000: small perturbations are learnt badly",
        ),
        Goal("least detection accuracy over adversaries that take accuracy under 0.3", _under(0.3)),
    ],
}


def _line(defense, results, detector, size, noise):
    # What the network alone leaves stands in the lines of SafetyNet.
    fields = {"attack": "dynamic adversary", "threshold": CALIBRATED, "detector": detector, "epsilon": _stored(size)}
    attack, worst = f"dynamic adversary, linf {size_text(size)}, threshold at 5 %", _worst_case(detector, size)
    paper, adaptive = (lambda of: (of(table=_ADAPTIVE, **fields), None)), (lambda of: (worst(of), None))
    noisy = f"sign {size_text(noise)}"
    return Line(
        defense, results, attack, paper, "every search", adaptive, "", _rejected(detector), _rejected(detector, noise), noisy
    )


_DYNAMIC = "detector branch, dynamic"
LINES = [
    _line("detector branch, static", "detector-mnist", "static", 0.2, 0.1),
    _line(_DYNAMIC, "detector-mnist", "dynamic", 0.2, 0.1),
    _line("detector branch, static", "detector-cifar10", "static", 2 / 255, 2 / 255),
    _line(f"{_DYNAMIC}, trained down to 1/255", "detector-cifar10", "dynamic", 2 / 255, 2 / 255),
]
