"""What each protocol was meant to show, computed from its results: a page of numbers does not say which of them fell short."""

from collections.abc import Callable
from typing import NamedTuple


class Goal(NamedTuple):
    """A goal, or a comparison where it has no limit.

    Args:
        what: What is measured.
        value: Gives it from the results, a dict from what a row is about to its number.
        least, most: The limit, if there is one.
        remark: Why it fell short, or what it means; shown where it is not met or has no limit.
        row: The row whose number of samples is to be shown too: of few samples a ratio says little.
    """

    what: str
    value: Callable
    least: float | None = None
    most: float | None = None
    remark: str = ""
    row: str = ""

    def measured(self, of):
        """The number, or None where a row that it follows from has none, or is not there in results of an older run."""
        try:
            return self.value(of)
        except (TypeError, KeyError, ValueError):
            return None

    def met(self, value):
        return value is not None and (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def _auc(attack, loss, metric="K-density"):
    return f"AUC, {attack}, {loss}, {metric}"


def _above(attack, metric="K-density"):
    return lambda of: of[_auc(attack, "RCE", metric)] - of[_auc(attack, "CE", metric)]


def _beside(what, **limits):
    """A row on RCE less the same one on CE."""
    return Goal(f"{what}, RCE less CE", lambda of: of[f"{what}, RCE"] - of[f"{what}, CE"], **limits)


_KNOWN = ("FGSM", "BIM", "ILCM", "C&W")
_ALL = (*_KNOWN, "JSMA", "C&W-hc", "C&W-hc own kappa")
_NARROW = "a narrower kernel, chosen on held-out samples, tells more: see `rce_bandwidth`"
_START = (
    "from x RCE's samples are hardly lost (f2 > 0), from the C&W example nearly all are; "
    "a search ten times as long takes the ratio under 1: see `rce_bandwidth`"
)
_OWN = "at an equal share of each network's margin the gain of kappa 10 is gone, under a narrower kernel too: see `rce_bandwidth`"
_LEAST_CHANGE = (
    "a gradient that knows the detectors needs 1/255 of the depth, the least that a file can hold, "
    "to pass nearly all forgeries whatever watches; the paper's network, large and pretrained, was harder to move"
)
_TRAININGS = ("the recipe", "twice the epochs", "2.5 times the learning rate")
_LIKELIEST = "bandwidth the likeliest on held-out samples"
_BOTH = "distortion of RCE over that of CE, samples that both lose"
_FROM_X, _BETTER = f"C&W-wb from x: {_BOTH}", f"C&W-wb the better for each sample: {_BOTH}"
_LONGER = "C&W-wb from the C&W example, ten times as long, bandwidth the paper's"

_RATIO_FROM_X = Goal(_FROM_X, lambda of: of[_FROM_X], row=_FROM_X)
_RATIO = Goal(_BETTER, lambda of: of[_BETTER], row=_BETTER)
_NON_ME = Goal("non-ME, RCE less CE, least of all attacks", lambda of: min(_above(name, "non-ME")(of) for name in _ALL))
_HELD = {
    "mnist": ("l2 1", "l2 1.5", "linf 0.1"),
    "cifar10": ("l2 0.1", "l2 0.25", "l2 0.5", "linf 0.005", "linf 0.01", "linf 0.02"),
}


def _least_error(of, loss):
    """Over the learning rates of SGD."""
    return min(value for what, value in of.items() if what.startswith("test error, SGD") and what.endswith(f", {loss}"))


def _compared(dataset):
    """The direction of each comparison of the two losses."""
    return [
        _beside("test error"),
        *(Goal(f"K-density under {name}, RCE less CE", _above(name)) for name in _ALL),
        _NON_ME,
        _beside("distortion of 255, C&W"),
        _beside("distortion of 255, C&W-hc own kappa"),
        _beside("f2 > 0, C&W-wb from the C&W example"),
        _RATIO_FROM_X,
        _RATIO,
        *(_beside(f"not fooled, {size}, all starts") for size in _HELD[dataset]),
        _beside("rejected, sign 0.1"),
    ]


_METHODS = ("DNN", "NR", "DNR")
_NAMED = "DNR on the DNN attacked in training, end to end, attacked"
_STRONGEST = "strongest of all starts"
_CHANGES_OF_DNR = (
    "DNR, gamma / 4",
    "DNR, gamma * 4",
    "DNR, C and gamma by cross-validation",
    "DNR, one more layer, earlier",
    "DNR, two more layers, earlier",
    "DNR, earlier layers alone",
    "DNR, machines trained on, clean",
    "DNR, end to end, clean",
    "DNR, end to end, attacked",
)


def _variants(of, size=2):
    """Shares not fooled, by the changes of `dnr_trained`."""
    end = f": not fooled at l2 {size:g}, {_STRONGEST}"
    return {what.removesuffix(end): value for what, value in of.items() if what.endswith(end)}


_HALF = "decision at a probability of one half"
_ABC = "Det A or B or C"
_EVERY_CHANGE = f"{_ABC}, by class, dynamic, harmless changes"
_NOISE = ("sign 0.1", "sign 0.2", "gaussian 0.1", "gaussian 0.2")
_UNFOOLED, _NOISY = "not fooled, strongest of all attacks", "rejected, sign 0.1, 5 % of clean rejected"
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


def _transferred(of):
    """By the branch of the iterative linf adversary, of the fast one."""
    start, middle = "detectability, fitted on iterative linf ", ", tested on fast "
    return min(value for what, value in of.items() if what.startswith(start) and middle in what)


def _one_branch(of):
    """The least of the five by one branch, the better of the two that are tried."""
    start, end = "one branch fitted on ", ": least detectability of the five"
    return max(value for what, value in of.items() if what.startswith(start) and what.endswith(end))


def _augmented(what):
    return lambda of: of[f"{what}, +out-distribution +interpolated"]


def _deepfool(network, choose):
    """The average error over the attacks, of the two forms of DeepFool."""
    forms = ("DeepFool", "DeepFool, longer")
    return lambda of: choose(of[f"average error over the attacks, {form}, {network}"] for form in forms)


def _forged_through(attack):
    """How much the better of plain network and branch lets through that Det ABC does not."""
    of_system = "F->T, {}, {}".format
    return lambda of: min(of[of_system(attack, name)] for name in ("plain", "branch")) - of[of_system(attack, "Det ABC")]


def _detector(size=None, noise="sign 0.1"):
    """Of the detector branches: under the paper's adversaries, the dynamic one, the strongest, and harmless noise."""
    compared = ("static", "dynamic", "dynamic, against a mixture", "static with harmless changes", "dynamic with harmless changes")
    least = "least detectability over the sigmas that count, {}".format
    held = f"not fooled, strongest of all, linf {size}, {{}}".format
    rejected = f"rejected, {noise}, threshold at 5 %, {{}}".format
    under = "least detectability of adversaries that take accuracy under 0.3"
    return [
        Goal(f"{under}, each by its own branch", lambda of: of[under], least=0.8),
        Goal("least detectability of the five by one branch, the better of two", _one_branch, least=0.85),
        Goal("fitted on iterative linf, tested on fast", _transferred, least=0.85),
        *(_row(least(name), least=0.7 if name == "dynamic" else None) for name in compared),
        _row(f"rejected, unchanged, {_HALF}, dynamic", most=0.05),
        *(_row(held(name), least=0.75 if name == "dynamic" and size == "0.2" else None) for name in compared),
        *(_row(rejected(name)) for name in compared),
    ]


def _row(what, **limits):
    return Goal(what, lambda of: of[what], row=what, **limits)


GOALS = {
    ("sceneproof", "nyu_depth_v2_small"): [
        Goal("clean accuracy, familiar forgeries", lambda of: of["clean accuracy"], least=0.85),
        Goal("real pairs rejected, Det ABC", lambda of: of["T rejected, no attack, Det ABC"], most=0.15),
        *(
            Goal(f"F->T, {attack}: the better of plain and branch less Det ABC", _forged_through(attack), least=1e-6, remark=remark)
            for attack, remark in (
                ("type I", ""),
                ("type I, mean", ""),
                ("type II", _LEAST_CHANGE),
                ("type II, mean", "transfers are stopped as well as by the branch, but who knows the detectors gets through"),
                ("any of these attacks", _LEAST_CHANGE),
            )
        ),
    ],
    ("detector", "mnist"): _detector("0.2"),
    ("detector", "cifar10"): _detector("2/255", "sign 4/255"),
    ("dustbin", "mnist"): [
        Goal("clean accuracy, both additions", _augmented("clean accuracy"), least=0.99),
        Goal(
            "clean accuracy, naive less both additions",
            lambda of: of["clean accuracy, naive"] - _augmented("clean accuracy")(of),
            most=0.005,
        ),
        Goal("held-back letters rejected", _augmented("held-back notmnist rejected"), least=0.995),
        Goal(
            "average error, both additions, the worse form of DeepFool",
            _deepfool("+out-distribution +interpolated", max),
            most=0.04,
        ),
        Goal("average error, naive, the kinder form of DeepFool", _deepfool("naive", min), least=0.5),
        Goal(
            "the goal on harmless noise, met by one of the changes",
            lambda of: float(of["goal met: under 10% of sign 0.1 rejected, black-box error under 10%"]),
            least=1.0,
        ),
        Goal(
            "the same, by one that never saw noise",
            lambda of: float(
                of["goal met: under 10% of sign 0.1 rejected, black-box error under 10%, by one that never saw noise"]
            ),
        ),
    ],
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
            "not fooled at linf 0.2, strongest of all attacks, the net with every change",
            lambda of: of[f"not fooled, strongest of all attacks, {_EVERY_CHANGE}"],
            least=0.5,
        ),
        Goal(
            "the same net: the most rejected of sign and Gaussian noise up to the attack's size, threshold at 5 %",
            lambda of: max(of[f"rejected, {noise}, 5 % of clean rejected, {_EVERY_CHANGE}"] for noise in _NOISE),
            most=0.1,
        ),
        *(
            Goal(f"{what}, {one} less {other}", lambda of, row=row, a=one, b=other: of[f"{row}, {a}"] - of[f"{row}, {b}"])
            for what, row, one, other in _CODES
        ),
    ],
    ("dnr", "mnist"): [
        Goal("clean accuracy, DNN less DNR", lambda of: of["DNN, clean accuracy"] - of["DNR, clean accuracy"], most=0.06),
        Goal("clean rejection, DNR", lambda of: of["DNR, clean rejection"], most=0.06),
        Goal(
            "from the sample, as in the paper: DNR at or above NR and NR above DNN for l2 1.5 to 4",
            lambda of: float(of["from the sample, as in the paper: DNR at or above NR and NR above DNN for l2 1.5 to 4"]),
            least=1.0,
            remark="the sizes where the order differs are in the curves",
        ),
        Goal(
            "accuracy at l2 8, strongest of all starts, the best of the three",
            lambda of: max(of[f"{method}, {_STRONGEST}: accuracy at l2 8"] for method in _METHODS),
            most=0.1,
        ),
        Goal("seconds to fit DNR on 10,000 samples and three layers", lambda of: of["DNR, seconds to fit"], most=120),
        Goal(
            "prediction of the compressed DNR over the plain network's",
            lambda of: of["DNR compressed, time of a prediction over the plain network's"],
            most=1.5,
        ),
    ],
    ("dnr_trained", "mnist"): [
        Goal(f"not fooled at l2 2, {_STRONGEST}: {_NAMED}", lambda of: _variants(of)[_NAMED], least=0.5),
        Goal(f"clean rejection: {_NAMED}", lambda of: of[f"{_NAMED}: clean rejection"], most=0.06),
        Goal(
            "the first less the network attacked in training and trained on as long, which rejects nothing",
            lambda of: _variants(of)[_NAMED] - _variants(of)["DNN attacked in training, trained on as long"],
        ),
        Goal(
            "the first less that network with a threshold on its confidence",
            lambda of: _variants(of)[_NAMED] - _variants(of)["DNN attacked in training, trained on as long, confidence"],
            remark="on a network trained against attacks a threshold on its confidence does as well as machines",
        ),
        Goal(
            "the first less plain DNR",
            lambda of: _variants(of)[_NAMED] - _variants(of)["DNR"],
            remark="what follows are the changes one by one: those of kernels and layers give little at this size",
        ),
        *(
            Goal(f"{name} less plain DNR", lambda of, name=name: _variants(of)[name] - _variants(of)["DNR"])
            for name in _CHANGES_OF_DNR
        ),
        Goal(
            "the first at l2 8, where nothing should stand",
            lambda of: _variants(of, 8)[_NAMED],
            most=0.1,
            remark="the attack failed there, so that the shares at smaller sizes are upper limits",
        ),
    ],
    ("rce", "mnist"): [
        Goal("test error of the worse network", lambda of: max(of["test error, CE"], of["test error, RCE"]), most=0.008),
        *(Goal(f"AUC, {n}, RCE, K-density", lambda of, n=n: of[_auc(n, "RCE")], least=0.95, remark=_NARROW) for n in _KNOWN),
        Goal("K-density under C&W-hc, RCE less CE", _above("C&W-hc"), least=0.05),
        Goal(
            "K-density under C&W-hc own kappa, RCE less CE",
            _above("C&W-hc own kappa"),
            least=0.05,
            remark=_OWN,
        ),
        _NON_ME._replace(least=0.0),
        _RATIO_FROM_X,
        _RATIO._replace(least=1.2, remark=_START),
        *(_beside(f"not fooled, {size}, all starts", least=0.0) for size in _HELD["mnist"]),
        Goal("not fooled, l2 2, all starts, RCE", lambda of: of["not fooled, l2 2, all starts, RCE"]),
        _beside("rejected, sign 0.1"),
        Goal(
            "test error, SGD with the best rate of each, RCE less CE",
            lambda of: _least_error(of, "RCE") - _least_error(of, "CE"),
            remark="in so few epochs no rate makes RCE as good as CE; AdamW, whose step does not follow the gradient's size, does",
        ),
        *(
            Goal(
                f"least AUC of the four, K-density, RCE, ResNet-8, {training}",
                lambda of, training=training: min(of[f"AUC, {n}, RCE, ResNet-8, {training}, K-density"] for n in _KNOWN),
            )
            for training in _TRAININGS
        ),
    ],
    ("rce", "cifar10"): _compared("cifar10"),
    ("rce_bandwidth", "mnist"): [
        Goal(
            "least AUC of the four, RCE, likeliest bandwidth",
            lambda of: min(of[_auc(name, "RCE", f"K-density, {_LIKELIEST}")] for name in _KNOWN),
            least=0.95,
        ),
        Goal(
            "under C&W-hc own kappa, RCE less CE, likeliest bandwidth",
            _above("C&W-hc own kappa", f"K-density, {_LIKELIEST}"),
            least=0.05,
            remark="with the narrower kernel CE is told nearly as well",
        ),
        *(
            Goal(
                f"rejected, sign 0.1, {loss}, likeliest bandwidth",
                lambda of, loss=loss: of[f"rejected, sign 0.1, {loss}, {_LIKELIEST}"],
                remark="the price of the narrower kernel: harmless noise; less under the paper's bandwidth, see `rce`",
            )
            for loss in ("CE", "RCE")
        ),
        Goal(
            f"{_BETTER}, the same bandwidth",
            lambda of: of[f"{_BETTER}, {_LIKELIEST}"],
            remark="none is lost, which is no strength: training points count themselves in eta, "
            "and under so narrow a kernel no other sample gets below it, clean ones neither",
            row=f"{_BETTER}, {_LIKELIEST}",
        ),
        Goal(f"{_LONGER}: {_BOTH}", lambda of: of[f"{_LONGER}: {_BOTH}"], row=f"{_LONGER}: {_BOTH}"),
    ],
}


def table(content):
    """The goals of a protocol as lines of Markdown, or nothing where it has none."""
    goals = GOALS.get((content["protocol"], content["dataset"]), [])
    if not goals:
        return ""
    of = {row["what"]: row["ours"] for row in content["rows"]}
    samples = {row["what"]: row.get("samples") for row in content["rows"]}
    lines = ["| goal | measured | limit | met | why |", "| --- | --- | --- | --- | --- |"]
    for goal in goals:
        value = goal.measured(of)
        shown = "-" if value is None else f"{value:.4g}" + (f" (of {samples[goal.row]} samples)" if goal.row else "")
        bounds = [f"{sign} {limit:g}" for sign, limit in (("at least", goal.least), ("at most", goal.most)) if limit is not None]
        met = ("yes" if goal.met(value) else "**no**") if bounds else "-"
        if value is None:
            met = "not measured"
        # Of no samples there is no number, but a reason.
        known = value is not None or goal.row in of
        remark = goal.remark if known and not (bounds and goal.met(value)) else ""
        lines.append(f"| {goal.what} | {shown} | {' and '.join(bounds) or '-'} | {met} | {remark or '-'} |")
    return "\n".join(lines)
