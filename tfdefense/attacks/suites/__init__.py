"""Named, versioned sets of attacks. Published numbers name theirs: a suite that changes gets a new version.

Example:

>>> result = td.attacks.suite("quick-1").attack(0.1, "linf", steps=5)(defended, x, y)
>>> result.found_by.shape
(8,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._suggest import did_you_mean
from tfdefense._validation import AnyModel
from tfdefense.attacks.combine import WorstCase, WorstCaseResult
from tfdefense.attacks.suites import papers, standard
from tfdefense.attacks.suites.situation import Attacker, Situation

__all__ = ["AtSize", "Attacker", "Situation", "Suite", "get", "names"]


@dataclass(frozen=True)
class Suite:
    """A set of attacks with its starts.

    Args:
        name: With its version, such as "standard-1".
        attackers: In the order in which they are run.
        options: Of every situation unless told otherwise, such as `steps` and `restarts`.

    Example:

    >>> suite = td.attacks.suites.get("quick-1")
    >>> list(suite.attacks(suite.situation(model, (x, y), "linf", 0.1)))[0]
    'one step'
    """

    name: str
    attackers: tuple
    options: dict = field(default_factory=dict)

    def situation(
        self, model: AnyModel, samples: tuple[ArrayLike, ArrayLike], norm: str, epsilon: float, **options: Any
    ) -> Situation:
        """The situation of a model, with the suite's own starts unless told otherwise; see `Situation.of`."""
        return Situation.of(model, samples, norm, epsilon, **self.options | options)

    def attacks(self, situation: Situation) -> dict[str, Any]:
        """The attacks that make sense in a situation, by name."""
        return {attacker.title: attacker.make(situation) for attacker in self.attackers if attacker.fits(situation)}

    def worst_case(self, situation: Situation, without: Sequence[str] = ()) -> WorstCase:
        """The worst case in a situation as one attack: a cascade, in which each attack sees the samples that those before it left.

        Of each sample the first that breaks it within the size counts. `without` names attacks to leave out.
        """
        # The papers' lists are searches alone.
        chosen = [one for one in self.attackers if one.search or one.cascade] or self.attackers
        fitting = [one for one in chosen if one.fits(situation)]
        found = {one.title: one.make(situation) for one in fitting if one.title not in without}
        return WorstCase(found, until_success=True, within=situation.epsilon)

    def attack(self, epsilon: float, norm: str = "linf", **options: Any) -> AtSize:
        """The worst case at a size as an attack like any other: `suite.attack(0.1)(model, x, y)`.

        Options are those of `Situation.of`, such as `steps`, `seed`, or a `substitute` network of the attacker: the model, two
        arrays to train it on, or "distilled".
        """
        return AtSize(self, epsilon, norm, options)


@dataclass(frozen=True)
class AtSize:
    """A suite at one size: what it runs follows from the model that it is called with."""

    suite: Suite
    epsilon: float
    norm: str = "linf"
    options: dict = field(default_factory=dict)

    def __call__(self, model: AnyModel, x: np.ndarray | Sequence[Any], y: ArrayLike, **options: Any) -> WorstCaseResult:
        situation = self.suite.situation(model, (x, y), self.norm, self.epsilon, **self.options)
        return self.suite.worst_case(situation)(model, x, y, **options)


_ALL = {"starts": "all"}
_SUITES = (
    Suite("quick-1", standard.QUICK, {"steps": 30}),
    Suite("standard-1", standard.STANDARD),
    Suite("thorough-1", standard.THOROUGH, {"steps": 150, "restarts": 4, "queries": 5000, "ranks": 5}),
    Suite("rce-2", papers.RCE, _ALL),
    Suite("dustbin-2", papers.DUSTBIN),
    Suite("detector-2", papers.DETECTOR, _ALL),
    Suite("safetynet-2", papers.SAFETYNET, _ALL | {"restarts": 3}),
    Suite("sceneproof-2", papers.SCENEPROOF, _ALL),
)


def names() -> tuple[str, ...]:
    """The names of all suites.

    Example:

    >>> names()[:2]
    ('quick-1', 'standard-1')
    """
    return tuple(suite.name for suite in _SUITES)


def get(name: str) -> Suite:
    """The suite of that name.

    Args:
        name: One of `names()`.

    Example:

    >>> get("standard-1").name
    'standard-1'
    """
    for suite in _SUITES:
        if suite.name == name:
            return suite
    raise ValueError(f"No suite named {name!r}.{did_you_mean(name, names())} Expected one of {', '.join(names())}.")
