"""Named, versioned sets of attacks. Published numbers name theirs: a suite that changes gets a new version.

Example:

>>> suite = suites.get("zoo-1")
>>> situation = suite.situation(defended, (x, y), "linf", 0.1, steps=5)
>>> list(suite.attacks(situation))
['PGD', 'log-sum-exp', 'maximum confidence', 'selective PGD', 'orthogonal PGD']
>>> result = suite.worst_case(situation)(defended, x, y)
>>> result.found_by.shape
(8,)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import ArrayLike

from tfdefense._suggest import did_you_mean
from tfdefense._validation import AnyModel
from tfdefense.attacks.combine import WorstCase
from tfdefense.attacks.suites import papers, standard
from tfdefense.attacks.suites.situation import Attacker, Situation

__all__ = ["Attacker", "Situation", "Suite", "get", "names"]


@dataclass(frozen=True)
class Suite:
    """A set of attacks with its starts.

    Args:
        name: With its version, such as "board-1".
        attackers: In the order in which they are run.
        options: Of every situation, such as `starts` and `restarts`.
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
        """All of these attacks but those named as one: of each sample the first that breaks it within the size counts."""
        found = {name: attack for name, attack in self.attacks(situation).items() if name not in without}
        return WorstCase(found, until_success=True, within=situation.epsilon)


_ALL = {"starts": "all"}
_SUITES = (
    Suite("standard-1", standard.STANDARD),
    Suite("board-1", standard.BOARD),
    Suite("zoo-1", standard.ZOO, _ALL | {"early_stop": False}),
    Suite("evaluate-1", standard.EVALUATE),
    Suite("dnr-1", papers.DNR),
    Suite("rce-1", papers.RCE, _ALL),
    Suite("dustbin-1", papers.DUSTBIN),
    Suite("detector-1", papers.DETECTOR, _ALL),
    Suite("safetynet-1", papers.SAFETYNET, _ALL | {"restarts": 3}),
    Suite("sceneproof-1", papers.SCENEPROOF, _ALL),
)


def names() -> tuple[str, ...]:
    """The names of all suites."""
    return tuple(suite.name for suite in _SUITES)


def get(name: str) -> Suite:
    """A suite by its name."""
    for suite in _SUITES:
        if suite.name == name:
            return suite
    raise ValueError(f"No suite named {name!r}.{did_you_mean(name, names())} Expected one of {', '.join(names())}.")
