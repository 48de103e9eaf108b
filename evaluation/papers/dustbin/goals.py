"""The dustbin class: what it was meant to show, and its lines in docs/results/defenses.md."""

from evaluation.papers.dustbin import ood
from evaluation.papers.dustbin.measure import AT_ZERO, CARLINI, DEEPFOOLS, REACHED
from evaluation.papers.dustbin.settings import BOTH, MORE, MORE_OOD, NAIVE, NAIVE_BENIGN, OTHER, PLANS, WIDE, Network
from evaluation.papers.unmeasured import LATER, later
from evaluation.runner.goals import Goal
from evaluation.runner.summary import Line

_TABLE, _OURS = "abbasi2018.table1", "abbasi2018.ours"


def _averages(of, network):
    """The average error over the attacks, with each form of DeepFool."""
    return [of(table=_TABLE, attack="average", deepfool=form, **network.fields()) for form in DEEPFOOLS]


def _worst(of, network, size):
    return of(table=f"{_OURS}.adaptive", attack="worst case", epsilon=size, **network.fields())


def _rejected(of, ood, network):
    return of(ood=ood, table=(_TABLE, f"{_OURS}.ood"), **network.fields())


def _changed(of, network, **fields):
    return of(table=f"{_OURS}.changes", on=None, **fields, **network.fields())


def _noisy(of, network, kind, size):
    return _changed(of, network, metric="false-positive rate", perturbation=kind, epsilon=size)


def _less(of, more, less, **fields):
    return of(**fields, **more.fields()) - of(**fields, **less.fields())


def _easier(of):
    """How much easier to mislead the network is that was chosen for what it makes of noise."""
    best = of.one(counted="goals met", choice="best")
    return _worst(of, Network(**{name: best.get(name) for name in Network._fields}), 0.1) - _worst(of, NAIVE, 0.1)


def _goals(dataset, images, limits=()):
    """Those of both data sets, the first five with limits where there are some."""
    plan, limits = PLANS[dataset], limits or [{}] * 5
    less, (kind, size), accuracy = "naive less both additions", plan.perturbations[0], {"table": _TABLE, "metric": "accuracy"}
    distance, worst = {"metric": "median distance", "attack": CARLINI}, {"table": f"{_OURS}.adaptive", "attack": "worst case"}
    values = {
        "clean accuracy, both additions": lambda of: of(**accuracy, attack="", **BOTH.fields()),
        f"clean accuracy, {less}": lambda of: _less(of, NAIVE, BOTH, **accuracy, attack=""),
        f"held-back {images} rejected": lambda of: _rejected(of, plan.ood, BOTH),
        "average error, both additions, the worse form of DeepFool": lambda of: max(_averages(of, BOTH)),
        "average error, naive, the kinder form of DeepFool": lambda of: min(_averages(of, NAIVE)),
    }
    goals = [Goal(what, value, **limit) for (what, value), limit in zip(values.items(), limits, strict=True)]
    name, remark = f"median l2 of white-box {CARLINI}, both additions less naive", "below 0, what misleads lies nearer"
    goals.append(Goal(name, lambda of: _less(of, BOTH, NAIVE, **distance), remark=f"{remark} than without a dustbin"))
    for epsilon in plan.sizes:
        name = f"white-box error at linf {epsilon:g}, the worst case over attacks, {less}"
        goals.append(Goal(name, lambda of, epsilon=epsilon: _less(of, NAIVE, BOTH, **worst, epsilon=epsilon)))
    for name, attack in ((f"{CARLINI} at kappa 0", AT_ZERO), (f"{CARLINI} that reaches kappa", REACHED)):
        about = {"table": _TABLE, "metric": "accuracy", "attack": attack}
        value = later(lambda of, about=about: of(**about, **NAIVE.fields()), attack=attack)
        goals.append(Goal(f"accuracy of naive under {name}", value, remark=LATER))
    return [*goals, Goal(f"{kind} {size:g} rejected, both additions", lambda of: _noisy(of, BOTH, kind, size))]


def _best(of, metric, **fields):
    """Of the two networks with more OOD images the one that rejects more of the held-back ones."""
    held_back = {"table": ood.TABLE, "metric": "rejection rate", "ood": PLANS["cifar10"].ood}
    best = max((MORE_OOD, WIDE), key=lambda network: of(**held_back, **network.fields()))
    return of(**{"table": ood.TABLE, "metric": metric} | fields, **best.fields())


_IMAGES = "held-back images of CIFAR-100"
_MORE = [
    Goal(
        f"{_IMAGES} rejected, the better of the two with more OOD images",
        lambda of: _best(of, "rejection rate", ood=PLANS["cifar10"].ood),
        0.85,
    ),
    Goal(
        "clean accuracy of that one less that of both additions",
        lambda of: _best(of, "accuracy") - of(table=ood.TABLE, metric="accuracy", **BOTH.fields()),
        least=-0.01,
    ),
    *(
        Goal(
            f"{_IMAGES} rejected, {network.detector}",
            lambda of, network=network: of(table=ood.TABLE, ood=PLANS["cifar10"].ood, **network.fields()),
        )
        for network in (BOTH, MORE_OOD, WIDE)
    ),
]


GOALS = {
    ("dustbin", "mnist"): [
        *_goals("mnist", "letters", [{"least": 0.99}, {"most": 0.005}, {"least": 0.995}, {"most": 0.04}, {"least": 0.5}]),
        Goal("held-back letters rejected, trained on letters of another source", lambda of: _rejected(of, "notmnist", OTHER)),
        Goal(
            "white-box error at linf 0.1, the worst case over attacks: the network with the best change against noise less naive",
            _easier,
            remark="what it was taught not to reject is where an attacker who knows the dustbin hides",
        ),
        Goal("the goal on benign noise, met by one of the changes", lambda of: of(choice="best"), least=1.0),
        Goal("the same, trained again with another seed", lambda of: of(choice="best, another seed")),
        Goal("the same, by one that never saw noise", lambda of: of(choice="never saw noise")),
    ],
    ("dustbin_ood", "cifar10"): _MORE,
    ("dustbin", "cifar10"): _goals("cifar10", "images of CIFAR-100"),
}


def _line(defense, dataset, network, beside=NAIVE):
    size, noise = PLANS[dataset].sizes[0], PLANS[dataset].perturbations[0]

    def left(of, network):
        # As for the defense the worse form of DeepFool is among the attacks.
        return 1 - (max(_averages(of, NAIVE)) if network == NAIVE else _changed(of, network, attack="average"))

    return Line(
        defense,
        f"dustbin-{dataset}",
        attack="five attacks made on another network",
        paper=lambda of: (left(of, network), left(of, beside)),
        attacker=f"worst case over attacks, linf {size:g}",
        # Of the network without a dustbin that was trained with noise nobody has measured this.
        adaptive=lambda of: (1 - _worst(of, network, size), 1 - _worst(of, NAIVE, size) if beside == NAIVE else None),
        beside="no dustbin",
        clean=lambda of: _noisy(of, network, "", None),
        benign=lambda of: _noisy(of, network, *noise),
        kind=f"{noise[0]} {noise[1]:g}",
    )


LINES = [
    _line("dustbin", "mnist", BOTH),
    _line("dustbin, trained with noise and twice the interpolated samples", "mnist", MORE, NAIVE_BENIGN),
    _line("dustbin", "cifar10", BOTH),
]
