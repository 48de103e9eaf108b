"""Searches that go beyond those of the suite, to be run on what these left: what they find, a suite should have found."""

import dataclasses
from typing import Any

from tfdefense.attacks import BPDA, PGD, CrossEntropy, Evade, LogitRatio, LogSumExp, Margin, MaximumConfidence, OrthogonalPGD
from tfdefense.attacks.starts import Accepted
from tfdefense.reporting.sentences import OBJECTIVE, RESTARTS, START, STEP_SIZE, STEPS

# So many of the likeliest wrong classes, or of classes to start from: a tenth of the time that all take.
FEW = 3

_REJECTING = (LogSumExp(), MaximumConfidence(), Evade(), LogitRatio())
_PLAIN = (Margin(), LogSumExp(), LogitRatio(), CrossEntropy())


def trials(suite, view, situation, finder, effort=1) -> dict[str, list]:
    """Searches by what they change in the suite's search that found most; all of them take steps that shrink to 0.

    Args:
        suite: The attacks that were run.
        view: The model.
        situation: The norm and the size, with the starts.
        finder: For each broken sample the number of the attack in the suite that found the nearest example.
        effort: Steps, random starts, or classes to start from, in multiples of those of the first round.
    """
    strongest, objectives = _strongest(suite, view, situation, finder)
    search = _inner(strongest)
    starts = {"starts": ("sample",) if search.targets else situation.from_sample, "targets": min(search.targets, FEW)}
    common = starts | {"restarts": 1, "schedule": "cosine"}
    first, steps = search.step_size or search.epsilon, situation.steps

    def changed(**options):
        return _changed(strongest, **common | options)

    restarts = {"starts": ("random",), "restarts": 3 * effort * situation.restarts, "seed": situation.seed + effort}
    found = {
        STEP_SIZE: [changed(step_size=share * first, steps=effort * steps) for share in (0.5, 2.0)],
        # More of them and no shorter: that would be another search.
        STEPS: [changed(step_size=first, steps=4 * effort * steps)],
        RESTARTS: [changed(**restarts)],
        OBJECTIVE: [situation.bpda(_other(view, situation, objectives, effort))],
    }
    if situation.accepted:
        pool, ranks = situation.accepted[0].pool, len(situation.accepted)
        ranks += FEW * (effort - 1)
        found[START] = [changed(starts=tuple(Accepted(rank, pool) for rank in range(ranks, ranks + FEW * effort)))]
    return found


def _other(view, situation, objectives, effort):
    """A search with an objective that the suite has not, or with its second best, towards the likeliest classes."""
    known = _REJECTING if view.rejects else _PLAIN
    other: Any = next((one for one in known if one not in objectives), objectives[min(1, len(objectives) - 1)])
    return situation.pgd(objective=other, starts=("sample",), restarts=1, targets=FEW, steps=effort * situation.steps)


def _strongest(suite, view, situation, finder):
    """The suite's search by steps that found most, and the objectives of all of them, best first."""
    searches, found = [], {}
    for number, attacker in enumerate(suite.attackers):
        # Attacks of authors, and those whose steps find their own length, have nothing to change.
        if attacker.search and attacker.fits(situation):
            attack = attacker.make(situation)
            if isinstance(_inner(attack), PGD | OrthogonalPGD):
                searches.append((int((finder == number).sum()), attack))
            if not isinstance(_inner(attack), OrthogonalPGD):
                objective = attack.objective_on(view)
                found[objective] = found.get(objective, 0) + int((finder == number).sum())
    searches.sort(key=lambda one: -one[0])
    if not searches or searches[0][0] == 0:
        searches.insert(0, (0, situation.bpda(situation.pgd(objective=LogSumExp()))))
    return searches[0][1], sorted(found, key=found.__getitem__, reverse=True) or [LogSumExp()]


def _inner(attack):
    return attack.attack if isinstance(attack, BPDA) else attack


def _changed(attack, **options):
    """The same search with other options, on the surrogate if it was."""
    if isinstance(attack, BPDA):
        return dataclasses.replace(attack, attack=_changed(attack.attack, **options))
    return dataclasses.replace(attack, **options)
