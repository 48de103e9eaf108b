"""What can be compared: defenses by name or as objects that held-out samples alone can set, and why others can't."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tfdefense._suggest import did_you_mean
from tfdefense._validation import Model
from tfdefense.contract import nodes_of
from tfdefense.defenses import Defense, ThresholdDefense
from tfdefense.layers import AdaptableLayer, Threshold, scores

# Names that `td.ThresholdDefense` takes.
SCORES: dict[str, Any] = scores.POST_HOC

Candidates = Sequence[str | Defense] | Mapping[str, str | Defense]


def named(candidates: Candidates | None = None) -> dict[str, Defense]:
    """Defenses by the names that they are reported under; None is every score by name."""
    if candidates is None:
        candidates = list(SCORES)
    if isinstance(candidates, str | Defense):
        candidates = [candidates]
    pairs = candidates.items() if isinstance(candidates, Mapping) else [(None, each) for each in candidates]
    found: dict[str, Defense] = {}
    for given, each in pairs:
        defense = by_name(each) if isinstance(each, str) else each
        if not isinstance(defense, Defense):
            kinds = "a name such as 'energy' or a defense such as `td.DeepNeuralRejection([...])`"
            raise ValueError(f"Expected {kinds} for each candidate. Received: {type(each).__name__}.")
        name, number = given or (each if isinstance(each, str) else title(defense)), 2
        if isinstance(each, str) and name in found:
            raise ValueError(f"Expected each candidate once. Received {name!r} twice.")
        while name in found:
            name, number = f"{given or title(defense)} {number}", number + 1
        found[name] = defense
    if not found:
        raise ValueError("Expected at least one candidate, such as 'confidence'. Received none.")
    return found


def by_name(name: str) -> Defense:
    if name not in SCORES:
        known = ", ".join(SCORES)
        raise ValueError(f"No score named {name!r}.{did_you_mean(name, SCORES)} Expected a defense, or one of {known}.")
    return ThresholdDefense(name)


def title(defense: Defense) -> str:
    """What a defense is called that came without a name: "energy", "DeepNeuralRejection", "any of confidence, energy"."""
    inner: Any = getattr(defense, "defenses", None)
    if inner:
        return f"{getattr(defense, 'how', 'joined')} of {', '.join(map(title, inner))}"
    if isinstance(wrapped := getattr(defense, "defense", None), Defense):
        return f"{type(defense).__name__} {title(wrapped)}"
    score = getattr(defense, "score", None)
    return score if isinstance(score, str) else type(defense).__name__


def check_untrained(name: str, defense: Defense) -> None:
    """Refuses before it is attached what a model that was trained without it can't have."""
    for each in (defense, *getattr(defense, "defenses", ()), *([defense.defense] if hasattr(defense, "defense") else ())):
        if each.has_dustbin:
            raise ValueError(
                f"Candidate {name!r} needs training: a dustbin is an output of the network that learns from out-of-distribution "
                "samples. Train one (`td.graft_dustbin`), and compare on that model by `td.report`."
            )


def check_attached(name: str, defended: Model, base: Model) -> bool:
    """Refuses what held-out samples alone can't set. Gives whether something waits to be adapted."""
    adaptable = [layer for layer, _ in nodes_of(defended, AdaptableLayer)]
    if attacked := [layer.name for layer in adaptable if layer.needs_adversarial]:
        raise ValueError(
            f"Candidate {name!r} needs adversarial samples: its layer '{attacked[0]}' learns from them. Leave it out here; adapt "
            "it by `td.adapt(..., adversarial=x_adv)` and judge it by `td.report`."
        )
    own = {id(weight) for weight in base.weights} | {id(weight) for layer in adaptable for weight in layer.weights}
    if trained := [weight.path for weight in defended.trainable_weights if id(weight) not in own]:
        raise ValueError(
            f"Candidate {name!r} needs training: its weight '{trained[0]}' is fitted by gradient. Leave it out here; train it "
            "(`td.DetectorTraining` for a detector branch) and judge it by `td.report`."
        )
    thresholds = [layer for layer, _ in nodes_of(defended, Threshold)]
    if not thresholds or any(layer.threshold is not None for layer in thresholds):
        raise ValueError(
            f"Candidate {name!r} has a threshold of its own, so it can't be compared at the same false-positive rate. "
            "Leave it to the comparison: `threshold=None`."
        )
    return bool(adaptable)
