"""What `td.report` runs: oblivious, adaptive and black-box attacks. One entry an attacker."""

import dataclasses

from tfdefense.attacks.bpda import BPDA, SCHEDULE
from tfdefense.attacks.combine import Transfer, WorstCase
from tfdefense.attacks.objectives import LogSumExp, Margin, MaximumConfidence, Penalty
from tfdefense.attacks.searches.deepfool import DeepFool
from tfdefense.attacks.searches.dynamic import DynamicAdversary
from tfdefense.attacks.searches.hop_skip_jump import HopSkipJump
from tfdefense.attacks.searches.projected import FGSM
from tfdefense.attacks.searches.square import Square
from tfdefense.attacks.suites.situation import ADAPTIVE, BLACK_BOX, OBLIVIOUS, Attacker, made_of, rejects


def _base(situation):
    return situation.rejects and situation.base


def _coded(situation):
    return situation.coded


def _uncoded(situation):
    return not situation.coded


def _smooth(situation):
    return situation.smooth and not situation.coded


def _all_starts(s, stages=None):
    # On a surrogate it begins anew at each of the three stages.
    stages = stages or (3 if s.coded else 1)
    return stages * s.steps * (len(s.starts) + s.restarts - 1)


def _refined(s):
    return s.refine[0] * s.refine[1]


# What looks for samples that are misclassified and not rejected. None is the strongest on every defense.
SEARCHES = {
    "PGD": lambda s: s.pgd(),
    "log-sum-exp": lambda s: s.pgd(objective=LogSumExp()),
    "maximum confidence": lambda s: s.pgd(objective=MaximumConfidence()),
    "selective PGD": lambda s: s.orthogonal("selective"),
    # It stands still where lowering the margin is what raises the suspicion.
    "orthogonal PGD": lambda s: s.orthogonal("orthogonal"),
}
# On a model that rejects nothing the others are all the same.
_PLAIN_SEARCHES = {name: SEARCHES[name] for name in ("PGD", "log-sum-exp")} | {"margin": lambda s: s.pgd(objective=Margin())}


def _searches():
    for name, make in SEARCHES.items():
        search = lambda s, make=make: s.bpda(make(s))  # noqa: E731
        yield Attacker(name, ADAPTIVE, search, where=rejects, search=True, passes=_all_starts)
    for name, make in _PLAIN_SEARCHES.items():
        yield Attacker(name, ADAPTIVE, make, where=lambda s: not s.rejects, search=True, passes=_all_starts)


_NOT_L1 = ("linf", "l2")
FIRST, ONE_STEP, TRANSFERRED = "PGD from the sample", "one step", "PGD on a substitute network"
STANDARD = (
    Attacker("FGSM", OBLIVIOUS, lambda s: s.oblivious(FGSM(s.epsilon, norm=s.norm)), where=_base, passes=lambda s: 1),
    # On to the end: just across the boundary of the other model a sample is in doubt, and still right on this one.
    Attacker("PGD", OBLIVIOUS, lambda s: s.oblivious(s.plain(early_stop=False)), where=_base),
    Attacker("DeepFool", OBLIVIOUS, lambda s: s.oblivious(DeepFool(s.norm)), _NOT_L1, _base, passes=lambda s: 30),
    Attacker("Carlini-Wagner", OBLIVIOUS, lambda s: s.oblivious(s.carlini()), ("l2",), _base, passes=_refined),
    Attacker(ONE_STEP, ADAPTIVE, lambda s: s.bpda(FGSM(s.epsilon, norm=s.norm), SCHEDULE[-1:]), passes=lambda s: 1),
    Attacker(FIRST, ADAPTIVE, lambda s: s.bpda(s.plain()), passes=lambda s: (len(SCHEDULE) if s.coded else 1) * s.steps),
    *_searches(),
    # The searches above take the gradients of discrete codes from their surrogate and keep the real decision in sight (BPDA);
    # this one sees the surrogate alone. Narrow kernels have a gradient, and their surrogate is a second opinion.
    Attacker(
        "PGD, differentiable surrogate",
        ADAPTIVE,
        lambda s: BPDA(s.pgd(), exact_forward=False),
        where=_coded,
        search=True,
        passes=_all_starts,
    ),
    Attacker(
        "selective PGD, BPDA",
        ADAPTIVE,
        lambda s: BPDA(s.orthogonal("selective")),
        where=_smooth,
        search=True,
        passes=lambda s: _all_starts(s, stages=3),
    ),
    Attacker(
        "PGD from the sample, differentiable surrogate",
        ADAPTIVE,
        lambda s: BPDA(s.plain(), exact_forward=False),
        where=_smooth,
        passes=lambda s: 3 * s.steps,
    ),
    Attacker("DeepFool", ADAPTIVE, lambda s: DeepFool(s.norm), _NOT_L1, _uncoded, passes=lambda s: 60),
    Attacker("Carlini-Wagner", ADAPTIVE, lambda s: s.carlini(), ("l2",), passes=_refined),
    # The attacks that the authors of the defenses used, from where they began.
    Attacker(
        "RBF-SVM: maximum confidence",
        ADAPTIVE,
        lambda s: s.plain(objective=MaximumConfidence()),
        where=made_of("RBFSVM"),
        authors=True,
    ),
    Attacker(
        "density: Carlini-Wagner with a penalty",
        ADAPTIVE,
        lambda s: s.carlini(objective=Penalty()),
        ("l2",),
        made_of("KernelDensity"),
        authors=True,
        passes=_refined,
    ),
    Attacker(
        "detector branch: dynamic adversary",
        ADAPTIVE,
        lambda s: WorstCase(
            # Close together below a half, where what wins a pixel changes from the classifier's sign to the detector's.
            [
                DynamicAdversary(s.epsilon, sigma=sigma, norm=s.norm, steps=s.steps, early_stop=True)
                for sigma in (0.3, 0.4, 0.45, 0.48, 0.5)
            ]
        ),
        where=made_of("DetectorBranch"),
        authors=True,
        passes=lambda s: 10 * s.steps,
    ),
    Attacker(
        "discrete codes: Carlini-Wagner, differentiable surrogate",
        ADAPTIVE,
        lambda s: BPDA(s.carlini(), exact_forward=False),
        ("l2",),
        made_of("DetectorSVM", "ClasswiseDetectorSVM"),
        authors=True,
        passes=lambda s: 3 * _refined(s),
    ),
    Attacker(
        TRANSFERRED,
        BLACK_BOX,
        lambda s: Transfer(s.plain(early_stop=False), s.substitute),
        where=lambda s: s.substitute is not None,
        transfers=True,
        passes=lambda s: s.steps / 2,
    ),
    Attacker(
        "Square",
        BLACK_BOX,
        lambda s: Square(s.epsilon, norm=s.norm, queries=s.queries, seed=s.seed),
        _NOT_L1,
        passes=lambda s: s.queries / 2,
    ),
    # It asks for labels alone, of which a search needs many more than of scores; one look costs less than a step.
    Attacker(
        "HopSkipJump",
        BLACK_BOX,
        lambda s: HopSkipJump(s.norm, queries=max(300, 2 * s.queries), seed=s.seed),
        _NOT_L1,
        passes=lambda s: s.queries,
    ),
)

# Without the substitute network: what a rank follows from shall not hang on how well one was trained.
BOARD = tuple(attacker for attacker in STANDARD if not attacker.transfers)
# What looks for samples that are misclassified and not rejected, from wherever a search may begin.
ZOO = tuple(attacker for attacker in STANDARD if attacker.search)
# The short table of `tfdefense evaluate`.
_FEW = ("FGSM, oblivious", "PGD, oblivious", FIRST)
EVALUATE = tuple(
    dataclasses.replace(attacker, where=lambda s: not s.rejects) if attacker.name == ONE_STEP else attacker
    for attacker in STANDARD
    if attacker.search or attacker.title in _FEW or attacker.name == ONE_STEP
)
