"""Who attacks: what each attacker knows, and how he searches. One line an attacker."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tfdefense import attacks
from tfdefense.attacks.starts import Interpolated, Of
from tfdefense.attacks.through import SCHEDULE


@dataclass(frozen=True)
class Situation:
    """What an attacker has to do with.

    Args:
        norm, size: Of the ball; attacks without one look for the smallest change, which counts if it is in there.
        starts: Where aware searches begin.
        rejects: Whether the model can reject.
        smooth: Whether some layer offers a smooth stand-in.
        coded: Whether such a stand-in has the only gradient, as that of discrete codes.
        watched: Names of the classes of the layers that the defense is made of.
        base: Whether the undefended model can be attacked; `source` is that model where it can't be reached inside.
        substitute: A network of the attacker's own, or None.
    """

    norm: str
    size: float
    steps: int
    restarts: int
    queries: int
    refine: tuple
    seed: int
    starts: tuple
    rejects: bool
    smooth: bool
    coded: bool
    watched: frozenset
    base: bool
    source: object = field(default=None, compare=False)
    substitute: object = field(default=None, compare=False)

    def pgd(self, **options):
        ball = {"epsilon": self.size, "norm": self.norm, "steps": self.steps, "restarts": self.restarts, "seed": self.seed}
        return attacks.PGD(**ball | {"starts": self.starts, "early_stop": True} | options)

    def sighted(self, search, schedule=SCHEDULE):
        """A search that has a gradient to follow: that of the stand-in, where there is no other."""
        return attacks.Through(search, schedule, straight_through=True) if self.coded else search

    def plain(self, **options):
        """From the sample alone, as one who does not know of a defense."""
        return self.pgd(**{"starts": ("sample",), "restarts": 1} | options)

    def orthogonal(self, form):
        ball = {"epsilon": self.size, "norm": self.norm, "steps": self.steps, "restarts": self.restarts, "seed": self.seed}
        return attacks.OrthogonalPGD(**ball, form=form, starts=self.starts)

    def carlini(self, **options):
        steps, rounds = self.refine
        return attacks.CarliniWagner(steps=steps, binary_search_steps=rounds, seed=self.seed, **options)

    def unaware(self, attack):
        return attacks.Transfer(attack, self.source)


def _always(situation):
    return True


def _rejects(situation):
    return situation.rejects


def _base(situation):
    return situation.rejects and situation.base


def _coded(situation):
    return situation.coded


def _uncoded(situation):
    return not situation.coded


def _made_of(*layers):
    return lambda situation: not situation.watched.isdisjoint(layers)


@dataclass(frozen=True)
class Attacker:
    """One kind of attack.

    Args:
        name: On the page.
        kind: "unaware" of the defense, "aware", "own" (the one that the authors of the defense would use), "transfer" or
            "black box".
        make: Gives the attack in a situation.
        norms: In which it is run.
        where: Whether it makes sense in a situation.
        search: Whether it is run at every size; the others at the size where all are compared.
        passes: Looks at the model for a sample, in steps of a search from one start; for the estimate of time.
    """

    name: str
    kind: str
    make: Callable
    norms: tuple = ("linf", "l2")
    where: Callable = _always
    search: bool = False
    passes: Callable = lambda s: s.steps

    def fits(self, situation):
        return situation.norm in self.norms and self.where(situation)


def _all_starts(s, stages=None):
    # Through a stand-in it begins anew at each of the three stages.
    stages = stages or (3 if s.coded else 1)
    return stages * s.steps * (len(s.starts) + s.restarts - 1)


def _refined(s):
    return s.refine[0] * s.refine[1]


# What looks for samples that are misclassified and not rejected. None is the strongest on every defense.
SEARCHES = {
    "PGD": lambda s: s.pgd(),
    "log-sum-exp": lambda s: s.pgd(objective=attacks.LogSumExp()),
    "maximum confidence": lambda s: s.pgd(objective=attacks.MaximumConfidence()),
    "selective PGD": lambda s: s.orthogonal("selective"),
    # It stands still where lowering the margin is what raises the suspicion.
    "orthogonal PGD": lambda s: s.orthogonal("orthogonal"),
}
# On a model that rejects nothing the others are all the same.
_PLAIN_SEARCHES = {name: SEARCHES[name] for name in ("PGD", "log-sum-exp")} | {
    "margin": lambda s: s.pgd(objective=attacks.Margin())
}


def _searches():
    for name, make in SEARCHES.items():
        search = lambda s, make=make: s.sighted(make(s))  # noqa: E731
        yield Attacker(name, "aware", search, where=_rejects, search=True, passes=_all_starts)
    for name, make in _PLAIN_SEARCHES.items():
        yield Attacker(name, "aware", make, where=lambda s: not s.rejects, search=True, passes=_all_starts)


FIRST = "PGD from the sample"
ONE_STEP = "one step"
ATTACKERS = (
    Attacker("FGSM", "unaware", lambda s: s.unaware(attacks.FGSM(s.size, norm=s.norm)), where=_base, passes=lambda s: 1),
    # On to the end: just across the boundary of the other model a sample is in doubt, and still right on this one.
    Attacker("PGD", "unaware", lambda s: s.unaware(s.plain(early_stop=False)), where=_base),
    Attacker("DeepFool", "unaware", lambda s: s.unaware(attacks.DeepFool(s.norm)), where=_base, passes=lambda s: 30),
    Attacker("Carlini-Wagner", "unaware", lambda s: s.unaware(s.carlini()), ("l2",), _base, passes=_refined),
    Attacker(ONE_STEP, "aware", lambda s: s.sighted(attacks.FGSM(s.size, norm=s.norm), SCHEDULE[-1:]), passes=lambda s: 1),
    Attacker(FIRST, "aware", lambda s: s.sighted(s.plain()), passes=lambda s: (len(SCHEDULE) if s.coded else 1) * s.steps),
    *_searches(),
    # The searches above go through the stand-in of discrete codes with the real decision in sight; this one sees the stand-in
    # alone. Narrow kernels have a gradient, and their stand-in is a second opinion.
    Attacker(
        "PGD through a smooth copy",
        "aware",
        lambda s: attacks.Through(s.pgd()),
        where=_coded,
        search=True,
        passes=_all_starts,
    ),
    Attacker(
        "selective PGD through a smooth copy",
        "aware",
        lambda s: attacks.Through(s.orthogonal("selective"), straight_through=True),
        where=lambda s: s.smooth and not s.coded,
        search=True,
        passes=lambda s: _all_starts(s, stages=3),
    ),
    Attacker(
        "PGD through a smooth copy, from the sample",
        "aware",
        lambda s: attacks.Through(s.plain()),
        where=lambda s: s.smooth and not s.coded,
        passes=lambda s: 3 * s.steps,
    ),
    Attacker("DeepFool", "aware", lambda s: attacks.DeepFool(s.norm), where=_uncoded, passes=lambda s: 60),
    Attacker("Carlini-Wagner", "aware", lambda s: s.carlini(), ("l2",), passes=_refined),
    # The attacks that the authors of the defenses used, from where they began.
    Attacker(
        "rejection machines: maximum confidence",
        "own",
        lambda s: s.plain(objective=attacks.MaximumConfidence()),
        where=_made_of("RBFSVM"),
    ),
    Attacker(
        "density: Carlini-Wagner with a penalty",
        "own",
        lambda s: s.carlini(objective=attacks.Penalty()),
        ("l2",),
        _made_of("KernelDensity"),
        passes=_refined,
    ),
    Attacker(
        "detector branch: dynamic adversary",
        "own",
        lambda s: attacks.Strongest(
            # Close together below a half, where what wins a pixel changes from the classifier's sign to the detector's.
            [
                attacks.DynamicAdversary(s.size, sigma=sigma, norm=s.norm, steps=s.steps, early_stop=True)
                for sigma in (0.3, 0.4, 0.45, 0.48, 0.5)
            ]
        ),
        where=_made_of("DetectorBranch"),
        passes=lambda s: 10 * s.steps,
    ),
    Attacker(
        "discrete codes: Carlini-Wagner through a smooth copy",
        "own",
        lambda s: attacks.Through(s.carlini()),
        ("l2",),
        _made_of("AdversaryMachine", "MatchedMachines"),
        passes=lambda s: 3 * _refined(s),
    ),
    Attacker(
        "PGD on a network of its own",
        "transfer",
        lambda s: attacks.Transfer(s.plain(early_stop=False), s.substitute),
        where=lambda s: s.substitute is not None,
        passes=lambda s: s.steps / 2,
    ),
    Attacker(
        "Square",
        "black box",
        lambda s: attacks.Square(s.size, norm=s.norm, queries=s.queries, seed=s.seed),
        passes=lambda s: s.queries / 2,
    ),
    # It asks for labels alone, of which a search needs many more than of scores; one look costs less than a step.
    Attacker(
        "HopSkipJump",
        "black box",
        lambda s: attacks.HopSkipJump(s.norm, queries=max(300, 2 * s.queries), seed=s.seed),
        passes=lambda s: s.queries,
    ),
)


def starts_of(view, source, pool):
    """Every start that this model has; the way to another class leads to any of the attacked samples, also where few are left."""
    found = []
    if view.rejects and source is not None:
        found.append(Of(source))
    elif view.rejects and view.has_base:
        found.append("base")
    if len(set(pool[1].tolist())) > 1:
        found.append(Interpolated(pool))
    return (*found, "sample", "random")
