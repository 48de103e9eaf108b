"""The short table of `tfdefense evaluate`: the report's protocol at one size, with fewer attacks and no page."""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfdefense import __version__, metrics
from tfdefense._files import plain, write_text
from tfdefense._validation import check_number
from tfdefense.attacks import workers
from tfdefense.attacks.norms import norm_named
from tfdefense.attacks.suites.situation import ADAPTIVE, OBLIVIOUS
from tfdefense.reporting.plan import Plan
from tfdefense.reporting.protocol import Protocol, run

WORST = "worst case over attacks"


@dataclass(frozen=True)
class Settings:
    """Size, norm and length of the attacks.

    Args:
        sizes: Of the curves; none draws none.
        source: The undefended model where it can't be reached inside.
        cache: A directory for finished batches, as for an attack.
        ray: Address of a Ray cluster whose nodes share the attacks.
    """

    epsilon: float
    norm: str = "linf"
    steps: int = 40
    seed: int = 0
    sizes: tuple = ()
    source: object = None
    cache: str | None = None
    ray: str | None = None

    def __post_init__(self):
        norm_named(self.norm)
        check_number("epsilon", self.epsilon, above=True)


@dataclass(frozen=True)
class Table:
    """What was found.

    Attributes:
        rows: Pairs of a name and `Outcomes`: clean, benign perturbations, attacks, their worst case; a None draws a line.
        curves: `SecurityCurve`s by the attacker's knowledge.
        left_out: Attacks that found no gradient to follow.
    """

    settings: Settings
    rows: list
    curves: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)

    def write_json(self, path, about):
        """All numbers as JSON, in shares of 1; `about` is written with them."""
        chosen = {name: getattr(self.settings, name) for name in ("epsilon", "norm", "steps", "seed")}
        rows = [
            {
                "what": name,
                "right": outcomes.accuracy,
                "rejected": outcomes.rejection,
                "wrong": outcomes.error,
                "robust_accuracy": outcomes.robust_accuracy,
            }
            for name, outcomes in self.rows
            if outcomes is not None
        ]
        curves = [
            {"what": name, "sizes": c.sizes.tolist(), "accuracy": c.accuracy.tolist(), "rejection": c.rejection.tolist()}
            for name, c in self.curves.items()
        ]
        clean = self.rows[0][1]
        if clean.suspicion is not None:
            rows[0] |= plain({"risk": clean.risk, "aurc": metrics.aurc(clean)})
        content = {"tfdefense": __version__, **about, "settings": chosen, "rows": rows, "curves": curves, "left_out": self.left_out}
        write_text(path, json.dumps(content, indent=2) + "\n")


def table(model, images, settings, begin=lambda name, done, total: None):
    """Attacks a model at one size, and for the curves at those of `settings`. `begin` hears how far it is, as of `run`."""
    norm, size = settings.norm, settings.epsilon
    attacked = tuple(sorted({size, *(point for point in settings.sizes if point > 0)}))
    own: dict[str, Any] = {norm: attacked}
    plan = Plan(**own, compared={norm: size}, samples=len(images), clean=len(images), steps=settings.steps)
    options = {"source": settings.source, "seed": settings.seed, "cache": settings.cache, "suite": "quick-1"}
    without = {"ood", "checks", "page", "cost", "undefended curve"} | (set() if settings.sizes else {"oblivious curve"})
    with workers(settings.ray) as spread:
        protocol = Protocol(model, images, plan, ray=spread, **options)
        findings = run(protocol, begin, without=without)
    # Judged last: what a search at another size found within this one counts.
    worst = protocol.judged(protocol.evidence.worst(norm, size), adversarial=True)
    rows = [("clean", protocol.outcomes["clean"]), ("", None)]
    for row in findings["benign"]:
        at = f", {row['norm']} {row['size']:g}" if row["norm"] else ""
        rows.append((f"benign: {row['what']}{at}", protocol.outcomes["benign", row["what"]]))
    rows.append(("", None))
    for entry in findings["attacks"]:
        known = f"{entry['knowledge']}: " if protocol.view.rejects else ""
        rows.append((f"{known}{entry['name']}", protocol.outcomes[entry["knowledge"], entry["name"], norm]))
    rows.append((WORST, worst))
    curves = {name: _curve(findings, norm, name, settings.sizes) for name in (ADAPTIVE, OBLIVIOUS) if settings.sizes}
    return Table(settings, rows, {name: curve for name, curve in curves.items() if curve}, findings["left_out"])


def _curve(findings, norm, knowledge, sizes):
    """The points that were asked for, size 0 among them; above it `accuracy` counts what is rejected."""
    curve, clean = findings["curves"][norm].get(knowledge), findings["clean"]
    if curve is None:
        return None
    points = dict(zip(curve["sizes"], zip(curve["robust_accuracy"], curve["rejected"], strict=True), strict=True))
    points[0] = clean["right"], clean["rejected"]
    robust, rejected = zip(*(points[size] for size in sizes), strict=True)
    errors = [clean["wrong"] if size == 0 else 1 - share for size, share in zip(sizes, robust, strict=True)]
    return metrics.SecurityCurve(np.array(sizes), np.array([robust]), np.array([rejected]), np.array([errors]))
