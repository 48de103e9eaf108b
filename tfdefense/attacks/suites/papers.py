"""The searches that each paper's tables here follow from: the worst case over them counts for each sample."""

from typing import Any

from tfdefense.attacks.bpda import BPDA, SCHEDULE
from tfdefense.attacks.objectives import Evade, LogSumExp, Margin, MaximumConfidence
from tfdefense.attacks.searches.dynamic import DynamicAdversary
from tfdefense.attacks.searches.hop_skip_jump import HopSkipJump
from tfdefense.attacks.searches.square import Square
from tfdefense.attacks.suites.situation import ADAPTIVE, BLACK_BOX, Attacker, rejects


def _on_surrogate(situation, search):
    return BPDA(search, exact_forward=False) if situation.smooth else search


def _everywhere(s):
    return "sample", *s.other_starts


# Reverse cross-entropy.
RCE = (
    Attacker("PGD", ADAPTIVE, lambda s: s.pgd(objective=Evade())),
    Attacker("selective PGD", ADAPTIVE, lambda s: s.orthogonal()),
    Attacker("log-sum-exp", ADAPTIVE, lambda s: s.pgd(objective=LogSumExp())),
)


# The dustbin class: each search from the sample alone, then from other starts.
def _dustbin():
    searches = {
        "PGD": lambda s, starts: s.pgd(objective=Evade(), starts=starts),
        "log-sum-exp": lambda s, starts: s.pgd(objective=LogSumExp(), starts=starts),
        "selective PGD": lambda s, starts: s.orthogonal(starts=starts),
    }
    for name, make in searches.items():
        # On a network that rejects nothing the selective search is the one on the margin.
        where: dict[str, Any] = {"where": rejects} if name == "selective PGD" else {}
        sample, others = (lambda s, make=make: make(s, ("sample",))), (lambda s, make=make: make(s, s.other_starts))
        yield Attacker(f"{name} from the sample", ADAPTIVE, sample, ("linf",), **where)
        yield Attacker(name, ADAPTIVE, others, ("linf",), **where)
    yield Attacker("Carlini-Wagner", ADAPTIVE, lambda s: s.carlini(starts=_everywhere(s), objective=MaximumConfidence()), ("l2",))


DUSTBIN = tuple(_dustbin())

# The detector branch. Close together below 0.5, where what wins a pixel changes from the classifier's sign to the detector's.
SIGMAS = (0.3, 0.4, 0.43, 0.46, 0.49, 0.5)


def _dynamic(sigma):
    # Its steps stay as long as the paper's: where the two disagree on a pixel shorter ones would end short of the ball's edge.
    def make(s):
        return DynamicAdversary(s.epsilon, sigma=sigma, norm=s.norm, steps=s.steps, early_stop=True, schedule="fixed")

    return Attacker(f"dynamic adversary, sigma {sigma:g}", ADAPTIVE, make, authors=True)


DETECTOR = (
    Attacker("selective PGD", ADAPTIVE, lambda s: s.orthogonal()),
    Attacker("PGD", ADAPTIVE, lambda s: s.pgd(objective=Evade())),
    Attacker("log-sum-exp", ADAPTIVE, lambda s: s.pgd(objective=LogSumExp())),
    Attacker("maximum confidence", ADAPTIVE, lambda s: s.pgd(objective=MaximumConfidence())),
    Attacker("orthogonal PGD", ADAPTIVE, lambda s: s.orthogonal("orthogonal")),
    *(_dynamic(sigma) for sigma in SIGMAS),
)


# SafetyNet. From where the surrogate leads to the real model, for gradients alone.
_LATE = SCHEDULE[1:]


def _late(s, search):
    return BPDA(search, _LATE) if s.smooth else search


def _nearest(s):
    # As many steps on a model without a surrogate as on all stages of one.
    rounds = 3 if s.smooth else 3 * len(SCHEDULE)
    return _on_surrogate(s, s.carlini(steps=max(2, 2 * s.steps), binary_search_steps=rounds))


SAFETYNET = (
    Attacker("PGD from the sample", ADAPTIVE, lambda s: _on_surrogate(s, s.plain(starts="sample")), ("linf",), authors=True),
    Attacker("PGD", ADAPTIVE, lambda s: _on_surrogate(s, s.pgd()), ("linf",)),
    Attacker("selective PGD", ADAPTIVE, lambda s: _late(s, s.orthogonal()), ("linf",)),
    Attacker("log-sum-exp", ADAPTIVE, lambda s: _late(s, s.pgd(objective=LogSumExp())), ("linf",)),
    Attacker("Square", BLACK_BOX, lambda s: Square(s.epsilon, norm=s.norm, queries=s.queries, seed=s.seed), ("linf",)),
    Attacker("HopSkipJump", BLACK_BOX, lambda s: HopSkipJump(s.norm, queries=s.queries, seed=s.seed), ("linf", "l2")),
    Attacker("Carlini-Wagner", ADAPTIVE, _nearest, ("l2",)),
)


# SceneProof: a plain network has a margin alone.
def _of_scenes(make, exact_forward=True):
    return lambda s: BPDA(make(s), exact_forward=exact_forward) if s.smooth else make(s)


SCENEPROOF = (
    Attacker("margin", ADAPTIVE, lambda s: s.pgd(objective=Margin()), where=lambda s: not s.rejects),
    Attacker("selective PGD", ADAPTIVE, _of_scenes(lambda s: s.orthogonal()), where=rejects),
    Attacker("log-sum-exp", ADAPTIVE, _of_scenes(lambda s: s.pgd(objective=LogSumExp())), where=rejects),
    Attacker("PGD", ADAPTIVE, _of_scenes(lambda s: s.pgd(objective=Evade()), exact_forward=False), where=rejects),
)
