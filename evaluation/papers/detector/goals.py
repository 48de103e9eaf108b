"""What the detector branch was meant to show, and its lines in docs/results/defenses.md."""

from evaluation.papers.detector import regularized
from evaluation.papers.detector.settings import CALIBRATED, HALF
from evaluation.papers.detector.topology import DEPTHS, TABLE
from evaluation.papers.unmeasured import LATER, later
from evaluation.runner.benign import size_text
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

_LEAST = {"metric": "detection accuracy", "statistic": "minimum"}
_WORST, _PAPERS = {"attack": "worst case"}, {"attack": "dynamic adversary", "threshold": CALIBRATED}
_COMPARED = ("static", "dynamic", "static with benign perturbations", "dynamic with benign perturbations")
_OTHERS = (
    "the searches have other objectives and other starts than the adversary that it was trained against, whose rows are beside; so "
    "are those of a branch trained against a mixture"
)
_LESS = "a third of the paper's maps, a quarter of its samples and a third of its epochs; the larger sizes are in the tables"
_STAGED = (
    "a third of the paper's maps; of its steps a fifth at this size, against an adversary who makes half of his; the larger sizes, "
    "which it began with, are in the tables"
)


def _number(table="", **fields):
    """A look-up by fields; sizes have the six digits that results have."""
    fields |= {"table": f"metzen2017.{table}"} if table else {}
    fields |= {"epsilon": float(f"{fields['epsilon']:.6g}")} if fields.get("epsilon") else {}
    return lambda of: of(**fields)


def _robust(detector, size, attack):
    return _number("ours.adaptive", detector=detector, epsilon=size, **attack)


def _rejected(detector, noise=None, threshold=CALIBRATED):
    """Of clean samples, or of those under sign noise."""
    kind = "sign" if noise else ""
    return _number("ours.benign", detector=detector, threshold=threshold, perturbation=kind, epsilon=noise)


def _one_branch(of):
    """At its worst over the five and over all that work, the better of the two that are tried."""
    least = {}
    for row in of.all(table="metzen2017.ours.one_branch", statistic="minimum"):
        if row.value is not None:
            least[row.get("fitted on")] = min(row.value, least.get(row.get("fitted on"), 1.0))
    return max(least.values())


def _but_the_smallest(of):
    """By its own branch each, of all adversaries but the iterative one at the smallest size in l2, as in the paper."""
    own = [row for row in of.all(table="metzen2017.fig6", metric="detection accuracy") if row.attack]
    smallest = min((row for row in own if (row.attack, row.norm) == ("BIM", "l2")), key=lambda row: row.epsilon)
    return min(row.value for row in own if row is not smallest)


def _of_depth(depth):
    """The least detection accuracy over the five, of a branch of a depth."""
    about = {"table": TABLE, "metric": "detection accuracy", "detector": "static", "convolutions": depth}
    return lambda of: min(row.value for row in of.all(**about))


def _gained(metric):
    """Of the classifier that was trained on through its detector, over one that was trained on without."""

    def value(of):
        by_base = of.values("base", table=regularized.TABLE, metric=metric)
        return by_base[regularized.base(1.0)] - by_base[regularized.base(0.0)]

    return value


def _detector(size, noise, trained, more=(), less="", staged=""):
    """Of the detector branches under the paper's adversaries, the dynamic one, all adaptive attacks and benign noise.

    Args:
        trained: The size at which the dynamic ones were trained.
        more: Detectors beside those of every data set.
        less, staged: Why they fall short where less than the paper's branches were trained.
    """
    each = "least detection accuracy over adversaries that take accuracy under {}, each by its own branch".format
    goals = [Goal(each(0.3), _number(**_LEAST, accuracy_under=0.3), 0.8, remark=less)]
    if less:
        goals.append(Goal(each(0.1), _number(**_LEAST, accuracy_under=0.1), 0.9, remark=less))
    best = "least detection accuracy of the five and of all that work, by one branch, the better of two"
    transferred = _number("fig4", fitted_on="BIM linf", attack="FGSM")
    goals.append(Goal(best, _one_branch, 0.85, remark=less))
    goals.append(Goal("fitted on BIM linf, tested on FGSM, each at the size chosen for it", transferred, 0.85))
    for name in (*_COMPARED, *more):
        limit = {"least": 0.7, "remark": staged} if name == "dynamic" else {}
        sigma = _number(**_LEAST, detector=name, epsilon=trained)
        goals.append(Goal(f"least detection accuracy over sigma, {name}", sigma, **limit))
    clean = _rejected("dynamic", threshold=HALF)
    goals.append(Goal("false-positive rate at a probability of 0.5, dynamic", clean, most=0.05, remark=staged))
    for name in (*_COMPARED, *more):
        limit = {"least": 0.75, "remark": _OTHERS} if name == "dynamic" and not less else {}
        goals.append(Goal(f"robust accuracy, worst case, linf {size_text(size)}, {name}", _robust(name, size, _WORST), **limit))
    for depth, words in zip(DEPTHS, ("as in figure 1", "as in earlier versions"), strict=True):
        name = f"least detection accuracy of the five, each by its own branch, {depth} convolutions before the last, {words}"
        goals.append(Goal(name, later(_of_depth(depth), table=TABLE), remark=LATER))
    for metric in ("accuracy", "robust accuracy"):
        name = f"{metric} of the classifier trained on through its detector less that of one trained on without"
        goals.append(Goal(name, later(_gained(metric), table=regularized.TABLE), remark=LATER))
    return goals + [
        Goal(f"benign sign noise of {size_text(noise)} rejected, {name}", _rejected(name, noise)) for name in (*_COMPARED, *more)
    ]


_FIGURE5 = [
    Goal("least detection accuracy over sigma, dynamic, as in the paper", _number("fig5", **_LEAST, detector="dynamic"), 0.7),
    Goal("least detection accuracy over sigma, static, as in the paper", _number("fig5", **_LEAST, detector="static")),
    Goal("false-positive rate at a probability of 0.5, dynamic, as in the paper", _rejected("dynamic", threshold=HALF), most=0.05),
]
GOALS = {
    ("detector_figure5", "cifar10"): _FIGURE5,
    ("detector", "mnist"): _detector(0.2, 0.1, 0.2, ("dynamic, against a mixture",)),
    ("detector", "cifar10"): _detector(2 / 255, 2 / 255, 1 / 255, less=_LESS, staged=_STAGED),
    ("detector", "imagenette_small"): [
        Goal(
            "least detection accuracy, each by its own branch, but of BIM l2 400/255, where the paper's is at chance",
            _but_the_smallest,
            least=0.85,
            remark="a small network and 1,500 pictures in place of VGG16 and 10,000: small perturbations are learnt badly",
        ),
        Goal("least detection accuracy over adversaries that take accuracy under 0.3", _number(**_LEAST, accuracy_under=0.3)),
    ],
}


def _line(defense, results, detector, size, noise):
    # What the network alone leaves stands in the lines of SafetyNet.
    paper, worst = (_robust(detector, size, attack) for attack in (_PAPERS, _WORST))
    attack, noisy = f"dynamic adversary, linf {size_text(size)}, threshold at 5 %", f"sign {size_text(noise)}"
    left = (lambda of: (paper(of), None)), (lambda of: (worst(of), None))
    clean, benign = _rejected(detector), _rejected(detector, noise)
    return Line(
        defense, results, attack, left[0], f"worst case over attacks, linf {size_text(size)}", left[1], "", clean, benign, noisy
    )


_STATIC, _DYNAMIC = "detector branch, static", "detector branch, dynamic"
LINES = [
    _line(_STATIC, "detector-mnist", "static", 0.2, 0.1),
    _line(_DYNAMIC, "detector-mnist", "dynamic", 0.2, 0.1),
    _line(_STATIC, "detector-cifar10", "static", 2 / 255, 2 / 255),
    _line(f"{_DYNAMIC}, trained down to 1/255", "detector-cifar10", "dynamic", 2 / 255, 2 / 255),
]
