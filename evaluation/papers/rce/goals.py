"""What reverse cross-entropy and its bandwidth were meant to show."""

from evaluation.papers.rce.measure import CARLINI, LEAST, RANDOM
from evaluation.papers.rce.protocol import TRAININGS
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

_KNOWN = ("FGSM", "BIM", "ILCM", "Carlini-Wagner")
_UNTARGETED = ("FGSM", "BIM", "ILCM", "JSMA", *CARLINI)
_NARROW = "a narrower kernel, chosen on held-out samples, detects more: see `rce_bandwidth`"
_START = "from the sample it hardly succeeds on RCE; a search ten times as long takes the ratio under 1: see `rce_bandwidth`"
_OWN = "at an equal share of each network's margin the gain of kappa 10 is gone, under a narrower kernel too: see `rce_bandwidth`"
_SGD = "in so few epochs no rate makes RCE as good as CE; AdamW, whose step does not follow the gradient's size, does"
_SAME = "with the narrower kernel CE is detected nearly as well"
_PRICE = "the price of the narrower kernel: benign noise; less under the paper's bandwidth, see `rce`"
_NONE = "it never succeeds, which is no strength: no sample outside the training set gets below eta, clean ones neither"
_SURE = "not explained: ours are sure of what FGSM and BIM make of a sample, the networks of the paper are not"
_AUC = {"metric": "AUROC", "detector": "K-density"}
_AIMED = _AUC | {"table": "pang2018.table2", "network": "substitute"}
_DENSITY = _AIMED | {"target": None}
_NARROWER = _AUC | {"table": "pang2018.ours.bandwidth", "bandwidth": "likeliest"}
_ERROR = {"table": "pang2018.table1", "network": "substitute"}
_SIGN = {"metric": "false-positive rate", "perturbation": "sign"}


def _of(what, **fields):
    return Goal(what, lambda of: of(**fields))


def _less(what, **fields):
    return Goal(f"{what}, RCE less CE", lambda of: of(system="RCE", **fields) - of(system="CE", **fields))


def _robust(norm, size):
    about = {"table": "pang2018.ours.adaptive", "metric": "robust accuracy", "norm": norm, "epsilon": size, "starts": "all"}
    return _less(f"robust accuracy, {norm} {size:g}, all starts", **about)


def _ratio(starts, more="", **fields):
    what = f"C&W-wb, {starts}{more}: distortion of RCE over that of CE, where both lose"
    return _of(what, metric="distance ratio", over="CE", starts=starts, **{"target": None} | fields)


def _least(what, **fields):
    return Goal(
        f"least AUROC of the four, {what}", lambda of: min(of.values("attack", attack=_KNOWN, system="RCE", **fields).values())
    )


def _non_me(of):
    rce, ce = (of.values("attack", **_DENSITY | {"detector": "non-ME", "system": system}) for system in ("RCE", "CE"))
    return min(rce[attack] - ce[attack] for attack in _UNTARGETED)


def _sgd(of):
    rce, ce = (min(of.values("learning rate", table="pang2018.ours.sgd", system=system).values()) for system in ("RCE", "CE"))
    return rce - ce


def _distortion(name):
    """As the paper's figure 2b has it: towards a random class, RCE over CE."""
    about = {"table": "pang2018.fig2b", "attack": name, "target": RANDOM}
    return Goal(f"distortion, {name}, random target: RCE over CE", lambda of: of(system="RCE", **about) / of(system="CE", **about))


def _smoothing(of):
    rce, smoothed = (of.values("attack", **_DENSITY | {"system": system}) for system in ("RCE", "label smoothing"))
    return min(rce[attack] - smoothed[attack] for attack in _KNOWN)


def _apart(attack, **about):
    about |= {"table": "pang2018.b3", "detector": "K-density", "attack": attack, "system": "RCE"}
    return _of(f"K-density, {attack} against uniform noise, RCE", **about)


_CONFIDENCE = [
    _of(f"confidence under {attack}, RCE", attack=attack, system="RCE", **_DENSITY | {"detector": "confidence"})._replace(
        least=least, remark=_SURE
    )
    for attack, least in (("FGSM", 0.9), ("BIM", 0.85))
]


def _later(goal):
    """Of what results have since they name the weights; of older ones it is not measured, and no row has lost its name."""

    def value(of):
        if "weights" not in of.settings:
            raise TypeError(f"{of.name} is older than the row of: {goal.what}")
        return goal.value(of)

    return goal._replace(value=value)


_AIMS = [
    *(_of(f"K-density under {a}, random target, RCE", attack=a, target=RANDOM, system="RCE", **_AIMED) for a in CARLINI[:2]),
    _of("K-density under JSMA, single pixels, RCE", attack="JSMA", target=LEAST, system="RCE", **_AIMED),
    *map(_distortion, CARLINI[:2]),
    _ratio("C&W example", ", random target", target=RANDOM),
]
_LATER = [
    *(each._replace(least=0.95) for each in _AIMS[:3]),
    *(each._replace(least=1.1) for each in _AIMS[3:5]),
    _AIMS[5],
    Goal("K-density, RCE less label smoothing, least of the four", _smoothing),
    *(_apart(attack, target=None) for attack in _KNOWN),
]
_NEW = [
    *_CONFIDENCE,
    *map(_later, _LATER),
]
_BETTER = _ratio("better of both")
_GAIN = {attack: _less(f"K-density under {attack}", attack=attack, **_DENSITY) for attack in _UNTARGETED}
_ENTROPY = Goal("AUROC, non-ME, RCE less CE, least of all attacks", _non_me)
_NOISE = _less("sign noise of 0.1 rejected", **_SIGN)
_BALL = {"metric": "robust accuracy", "norm": "l2", "epsilon": 2.0, "starts": "all"}
_WORSE = Goal("test error of the worse network", lambda of: max(of(system=each, **_ERROR) for each in ("CE", "RCE")))
_PAPER = [*_GAIN.values(), _ENTROPY, *_CONFIDENCE, *_AIMS]
GOALS = {
    ("rce_paper", "mnist"): [_WORSE._replace(most=0.008), *_PAPER],
    ("rce_paper", "cifar10"): [_WORSE._replace(most=0.12), *(goal._replace(least=None, remark="") for goal in _PAPER)],
    ("rce", "mnist"): [
        _WORSE._replace(most=0.008),
        *(
            _of(f"K-density under {a}, RCE", attack=a, system="RCE", **_DENSITY)._replace(least=0.95, remark=_NARROW)
            for a in _KNOWN
        ),
        _GAIN["C&W-hc"]._replace(least=0.05),
        _GAIN["C&W-hc own kappa"]._replace(least=0.05, remark=_OWN),
        _ENTROPY._replace(least=0.0),
        _ratio("sample"),
        _BETTER._replace(least=1.2, remark=_START),
        *(_robust(*ball)._replace(least=0.0) for ball in (("l2", 1.0), ("l2", 1.5), ("linf", 0.1))),
        _of("robust accuracy, l2 2, all starts, RCE", system="RCE", **_BALL),
        _NOISE,
        Goal("test error, SGD with the best rate of each, RCE less CE", _sgd, remark=_SGD),
        *(_least(name, **_DENSITY | {"network": name}) for name in TRAININGS),
        *_NEW,
    ],
    ("rce", "cifar10"): [
        _less("test error", **_ERROR),
        *_GAIN.values(),
        _ENTROPY,
        *(
            _less(f"distortion, {name}", table="pang2018.fig2b", attack=name, target=None)
            for name in ("Carlini-Wagner", "C&W-hc own kappa")
        ),
        _less("f2 > 0, C&W-wb from the C&W example", metric="robust accuracy", starts="C&W example", target=None),
        _ratio("sample"),
        _BETTER,
        *(_robust("l2", size) for size in (0.1, 0.25, 0.5)),
        *(_robust("linf", size) for size in (0.005, 0.01, 0.02)),
        _NOISE,
        *(goal._replace(least=None, remark="") for goal in _NEW),
    ],
    ("rce_bandwidth", "mnist"): [
        _least("likeliest bandwidth", **_NARROWER)._replace(least=0.95),
        _less("C&W-hc own kappa, likeliest", attack="C&W-hc own kappa", **_NARROWER)._replace(least=0.05, remark=_SAME),
        *(_of(f"sign noise of 0.1 rejected, {each}", system=each, **_SIGN)._replace(remark=_PRICE) for each in ("CE", "RCE")),
        _ratio("better of both", ", likeliest bandwidth", bandwidth="likeliest")._replace(remark=_NONE),
        _ratio("C&W example", ", ten times as long, the paper's bandwidth", search="ten times as long"),
    ],
}


def _line(results, size):
    def robust(starts):
        about = {"metric": "robust accuracy", "norm": "linf", "epsilon": size, "starts": starts}
        return lambda of: tuple(of(system=system, **about) for system in ("RCE", "CE"))

    def rejected(kind):
        return lambda of: of(table="pang2018.ours.benign", metric="false-positive rate", system="RCE", perturbation=kind)

    worst = f"worst case over attacks, linf {size:g}, all starts"
    attacks = (f"PGD, linf {size:g}, from the sample", robust("sample"), worst, robust("all"))
    return Line("RCE + K-density", results, *attacks, "cross-entropy + K-density", rejected(""), rejected("sign"), "sign 0.1")


LINES = [_line("rce-mnist", 0.1), _line("rce-cifar10", 0.01)]
