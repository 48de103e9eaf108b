"""What an attacker has to do with, and one kind of attack made for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import AnyModel, Bounds
from tfdefense.attacks.bpda import BPDA, SCHEDULE
from tfdefense.attacks.combine import Transfer
from tfdefense.attacks.norms import NORMS
from tfdefense.attacks.searches.carlini_wagner import CarliniWagner
from tfdefense.attacks.searches.orthogonal import OrthogonalPGD
from tfdefense.attacks.searches.projected import PGD
from tfdefense.attacks.starts import Accepted, Interpolated, Transferred
from tfdefense.attacks.substitute import substitute_network
from tfdefense.view import View

OBLIVIOUS, ADAPTIVE, BLACK_BOX = "oblivious", "adaptive", "black box"


@dataclass(frozen=True)
class Situation:
    """What an attacker has to do with.

    Args:
        norm, epsilon: Of the ball; attacks without one look for the smallest change, which counts if it is in there.
        steps, restarts: Of a search by gradients, and its random starts.
        queries: Of a black-box attack.
        refine: Iterations and rounds of Carlini-Wagner.
        targets: So many of the likeliest wrong classes a targeted search aims at.
        accepted: Starts from accepted images of other classes.
        starts: Where adaptive searches begin.
        early_stop: Whether a search leaves a sample alone once it evades.
        rejects: Whether the model can reject.
        smooth: Whether some layer offers a differentiable surrogate.
        coded: Whether that surrogate has the only gradient, as that of discrete codes.
        watched: Names of the classes of the layers that the defense is made of.
        base: Whether the undefended model can be attacked; `source` is that model where it can't be reached inside.
        substitute: A network of the attacker's own, or None.
    """

    norm: str
    epsilon: float
    steps: int = 50
    restarts: int = 1
    queries: int = 500
    refine: tuple = (100, 3)
    seed: int = 0
    starts: tuple | str = "all"
    early_stop: bool = True
    rejects: bool = False
    smooth: bool = False
    coded: bool = False
    watched: frozenset = frozenset()
    base: bool = False
    source: object = field(default=None, compare=False)
    substitute: object = field(default=None, compare=False)
    targets: int = 9
    accepted: tuple = ()

    @classmethod
    def of(
        cls,
        model: AnyModel,
        samples: tuple[ArrayLike, ArrayLike],
        norm: str,
        epsilon: float,
        *,
        bounds: Bounds = None,
        starts: tuple | str | None = None,
        source: AnyModel = None,
        ranks: int = 2,
        **options: Any,
    ) -> Situation:
        """The situation of a model.

        Args:
            model: A defended model, a plain classifier, a SavedModel, a function or a `View`.
            samples: Labelled samples, a pair (x, y): the way to another class leads to any of them.
            starts: None is every start that this model has.
            ranks: From so many classes an accepted image is a start.
            options: Other fields: `steps`, `restarts`, `queries`, `refine`, `seed`, `early_stop`, `targets`, and `substitute`, a
                network of the attacker's own. Two arrays in its place, samples and classes, train one, "distilled" trains one on
                what the model says of `samples`. Whoever goes from size to size makes it once, by `substitute_network`.
        """
        from tfdefense.attacks.surrogate import has_steps, has_surrogate

        view, x = View.of(model, bounds), np.asarray(samples[0])
        if "substitute" in options:
            options["substitute"] = _substitute(options["substitute"], view, x, options.get("seed", 0))
        pool = (x.astype("float32"), np.asarray(samples[1]))
        several = len(np.unique(pool[1])) > 1
        return cls(
            norm,
            epsilon,
            starts=_every_start(view, source, pool) if starts is None else starts,
            accepted=tuple(Accepted(rank, pool) for rank in range(ranks)) if several else (),
            rejects=view.rejects,
            smooth=view.is_keras and has_surrogate(view.model),
            coded=view.is_keras and has_steps(view.model),
            watched=frozenset(layer_kinds(view.model)),
            base=source is not None or (view.rejects and view.has_base),
            source=source,
            **options,
        )

    @property
    def ball(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon, "norm": self.norm, "steps": self.steps, "restarts": self.restarts, "seed": self.seed}

    @property
    def other_starts(self) -> tuple:
        """All but the sample."""
        return tuple(start for start in self.starts if start != "sample")

    @property
    def near(self) -> tuple:
        """Accepted images, the sample, and the example at the boundary of the undefended model."""
        base = (Transferred(self.source, at_boundary=True),) if self.base else ()
        return (*self.accepted, "sample", *base)

    @property
    def from_sample(self) -> tuple:
        """The sample, and the way to one of another class where there is any."""
        return ("sample", *(start for start in self.starts if isinstance(start, Interpolated) or start == "interpolated"))

    def pgd(self, **options: Any) -> PGD:
        return PGD(**self.ball | {"starts": self.starts, "early_stop": self.early_stop} | options)

    def plain(self, **options: Any) -> PGD:
        """From the sample alone."""
        return self.pgd(**{"starts": ("sample",), "restarts": 1} | options)

    def orthogonal(self, form: str = "selective", **options: Any) -> OrthogonalPGD:
        return OrthogonalPGD(**self.ball | {"form": form, "starts": self.starts} | options)

    def carlini(self, **options: Any) -> CarliniWagner:
        steps, rounds = self.refine
        return CarliniWagner(**{"steps": steps, "binary_search_steps": rounds, "seed": self.seed} | options)

    def oblivious(self, attack: Any) -> Transfer:
        return Transfer(attack, self.source)

    def bpda(self, search: Any, schedule: tuple = SCHEDULE) -> Any:
        """A search along the gradients of the surrogate where there is no other, while the real decision stays in sight."""
        return BPDA(search, schedule) if self.coded else search


def layer_kinds(model):
    """Names of the classes of the layers of a Keras model, those of submodels too."""
    found = set()
    for layer in getattr(model, "layers", ()):
        found |= {type(layer).__name__} | layer_kinds(layer)
    return found


def _substitute(given, view, x, seed):
    about: dict[str, Any] = {"bounds": view.bounds, "seed": seed}
    if isinstance(given, tuple | list) and len(given) == 2:
        view.expect(x)
        return substitute_network(given[0], given[1], view.classes, **about)
    if isinstance(given, str) and given == "distilled":
        return substitute_network(x, teacher=view, **about)
    if isinstance(given, str | tuple | list):
        raise ValueError(f"`substitute` must be a model, two arrays of samples and classes, or 'distilled'. Received: {given!r}.")
    return given


def _every_start(view, source, pool):
    found: list[Any] = []
    if view.rejects and source is not None:
        found.append(Transferred(source))
    elif view.rejects and view.has_base:
        found.append("base")
    if len(np.unique(pool[1])) > 1:
        found.append(Interpolated(pool))
    return (*found, "sample", "random")


def always(situation):
    return True


def rejects(situation):
    return situation.rejects


def made_of(*layers):
    return lambda situation: not situation.watched.isdisjoint(layers)


@dataclass(frozen=True)
class Attacker:
    """One kind of attack.

    Args:
        name: In tables.
        knowledge: Of the defense: "oblivious", "adaptive" or "black box".
        make: Gives the attack in a situation.
        norms: In which it is run.
        where: Whether it makes sense in a situation.
        search: Whether the report runs it at every size; the others at the size where all are compared.
        authors: Whether the authors of a defense attacked it so.
        transfers: Whether it needs a substitute network.
        cascade: Whether the worst case at one size needs it, beside every search.
        passes: Looks at the model for a sample, in steps of a search from one start; for the estimate of time.
    """

    name: str
    knowledge: str
    make: Callable
    norms: tuple = tuple(NORMS)
    where: Callable = always
    search: bool = False
    authors: bool = False
    transfers: bool = False
    cascade: bool = False
    passes: Callable = lambda s: s.steps

    @property
    def title(self) -> str:
        """The name, which is one's own in a suite: "PGD", "PGD, oblivious"."""
        return self.name if self.knowledge == ADAPTIVE else f"{self.name}, {self.knowledge}"

    def fits(self, situation: Situation) -> bool:
        return situation.norm in self.norms and self.where(situation)
