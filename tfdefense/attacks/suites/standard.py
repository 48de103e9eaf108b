"""The suites quick-1, standard-1 and thorough-1, which is what `td.report` runs too. One entry an attacker, cheapest first."""

import dataclasses

from tfdefense.attacks.bpda import BPDA, SCHEDULE
from tfdefense.attacks.combine import Transfer, WorstCase
from tfdefense.attacks.objectives import CrossEntropy, Evade, LogitRatio, LogSumExp, Margin, MaximumConfidence, Penalty
from tfdefense.attacks.searches.auto_pgd import APGD
from tfdefense.attacks.searches.deepfool import DeepFool
from tfdefense.attacks.searches.dynamic import DynamicAdversary
from tfdefense.attacks.searches.hop_skip_jump import HopSkipJump
from tfdefense.attacks.searches.minimum_norm import MinimumNorm
from tfdefense.attacks.searches.projected import FGSM
from tfdefense.attacks.searches.square import Square
from tfdefense.attacks.starts import Transferred
from tfdefense.attacks.suites.situation import ADAPTIVE, BLACK_BOX, OBLIVIOUS, Attacker, made_of, rejects


def _plain(situation):
    return not situation.rejects


def _base(situation):
    return situation.rejects and situation.base


def _coded(situation):
    return situation.coded


def _uncoded(situation):
    return not situation.coded


def _smooth(situation):
    return situation.smooth and not situation.coded


def _of_starts(starts):
    # On a surrogate it begins anew at each of the three stages.
    return lambda s: (3 if s.coded else 1) * s.steps * starts(s)


def _every(s):
    return len(s.starts) + s.restarts - 1


def _all_starts(s, stages=None):
    return (stages or (3 if s.coded else 1)) * s.steps * _every(s)


def _refined(s):
    return s.refine[0] * s.refine[1]


def _search(name, make, where=rejects, passes=_all_starts, **options):
    return Attacker(name, ADAPTIVE, lambda s: s.bpda(make(s)), where=where, search=True, passes=passes, **options)


def _substituted(s):
    return tuple(Transferred(s.substitute, at_boundary) for at_boundary in (False, True))


# What looks for samples that are misclassified and not rejected. None is the strongest on every defense.
_LOG_SUM_EXP = _search("log-sum-exp", lambda s: s.pgd(objective=LogSumExp()))
# Of no size: one run tells of them all, and each success counts where it lies.
_NEAREST = Attacker(
    "minimum norm",
    ADAPTIVE,
    lambda s: s.bpda(MinimumNorm(s.norm, s.steps, starts=s.starts, seed=s.seed, rounds=0)),
    cascade=True,
    passes=_all_starts,
)
_CONFIDENT = _search("maximum confidence", lambda s: s.pgd(objective=MaximumConfidence(), starts=s.near))
_EVADE = _search("PGD", lambda s: s.pgd(objective=Evade()))
_SELECTIVE = _search("selective PGD", lambda s: s.orthogonal())
# Its steps find their own length: the most on narrow kernels.
_AUTO = _search(
    "APGD",
    lambda s: APGD(s.epsilon, s.norm, s.steps, LogSumExp(), s.from_sample, early_stop=True, seed=s.seed),
    passes=_of_starts(lambda s: len(s.from_sample)),
)
_RATIO = _search(
    "ratio of logits",
    lambda s: s.pgd(objective=LogitRatio(), starts=s.from_sample),
    where=lambda s: True,
    passes=_of_starts(lambda s: len(s.from_sample)),
)
# One class after the other, on the way to samples of it.
_TARGETED = _search(
    "targeted ratio of logits",
    lambda s: s.pgd(objective=LogitRatio(), starts=s.from_sample[-1:], targets=s.targets),
    where=lambda s: True,
    passes=_of_starts(lambda s: s.targets),
)
_SUBSTITUTE = _search(
    "log-sum-exp from a substitute network",
    lambda s: s.pgd(objective=LogSumExp(), starts=_substituted(s)),
    where=lambda s: s.substitute is not None,
    passes=_of_starts(lambda s: 2),
)
_PLAIN = (
    _search("cross-entropy", lambda s: s.pgd(objective=CrossEntropy()), _plain),
    _search("margin", lambda s: s.pgd(objective=Margin()), _plain),
)
# Those above take the gradients of discrete codes from their surrogate and keep the real decision in sight (BPDA); this one sees
# the surrogate alone. Narrow kernels have a gradient, and their surrogate is a second opinion.
_SURROGATES = (
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
        lambda s: BPDA(s.orthogonal()),
        where=_smooth,
        search=True,
        passes=lambda s: _all_starts(s, stages=3),
    ),
)
# It stands still where lowering the margin is what raises the suspicion.
_ORTHOGONAL = _search("orthogonal PGD", lambda s: s.orthogonal("orthogonal"))
SEARCHES = (*_PLAIN, _LOG_SUM_EXP, _NEAREST, _CONFIDENT, _AUTO, _RATIO, _EVADE, _SELECTIVE, *_SURROGATES, _TARGETED, _SUBSTITUTE)

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
    *SEARCHES,
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
        cascade=True,
    ),
    Attacker(
        "density: Carlini-Wagner with a penalty",
        ADAPTIVE,
        lambda s: s.carlini(objective=Penalty()),
        ("l2",),
        made_of("KernelDensity"),
        authors=True,
        cascade=True,
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
        cascade=True,
        passes=lambda s: 10 * s.steps,
    ),
    Attacker(
        "discrete codes: Carlini-Wagner, differentiable surrogate",
        ADAPTIVE,
        lambda s: BPDA(s.carlini(), exact_forward=False),
        ("l2",),
        made_of("DetectorSVM", "ClasswiseDetectorSVM"),
        authors=True,
        cascade=True,
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
        cascade=True,
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

# The short table of `tfdefense evaluate`, and a first look.
_FEW = ("FGSM, oblivious", "PGD, oblivious", FIRST)
QUICK = tuple(
    dataclasses.replace(attacker, where=_plain) if attacker.name == ONE_STEP else attacker
    for attacker in STANDARD
    if attacker.title in _FEW
    or attacker.name == ONE_STEP
    or attacker in (*_PLAIN, _LOG_SUM_EXP, _NEAREST, _CONFIDENT, *_SURROGATES[:1])
)
THOROUGH = (*STANDARD, _ORTHOGONAL)
