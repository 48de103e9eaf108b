"""What the board's attacker finds on one network: of each sample the nearest example, and whether a harder search finds more.

A minimum-norm search gives each sample's distance, and so the whole curve; at the sizes that are compared the suite goes on with
the samples that are left. Whatever any search finds counts in every norm.
"""

import collections
from dataclasses import dataclass

import numpy as np

NEAREST = "minimum norm"
# What harder searches may find beyond: of the samples, and of the median distance.
MORE = 0.02


@dataclass(frozen=True)
class Attacker:
    """How hard is searched.

    Args:
        suite, thorough: Names of the suites for all samples and for the check.
        steps: Of the minimum-norm search, from each start.
        checked: So many samples of the first network of each base are searched harder; those of others are not.
        longer: So many times the steps a check of the minimum-norm search takes.
    """

    suite: str = "quick-1"
    thorough: str = "standard-1"
    steps: int = 50
    checked: int = 100
    longer: int = 4

    def attack(self, model, images, plan, ood, max_rejected, noise=None, another=None):
        """Everything that is measured on one network, as JSON holds it; the first samples of `images` are attacked.

        Args:
            noise: Size of random signs whose rejections are measured beside the other benign perturbations.
            another: A network like the base, trained from another seed: where the harder suite begins too.
        """
        from tfdefense.reporting.protocol import Protocol, run

        protocol = Protocol(model, images, plan, ood=ood, max_rejected=max_rejected)
        # Clean, benignly perturbed and out-of-distribution samples are the report's; the attacks are the board's own.
        found = run(protocol, without={job.part for job in protocol.jobs()} - {"clean", "ood"})
        search = _Search(self, protocol, another)
        search.nearest()
        search.at_sizes()
        checks = search.harder()
        each = {
            norm: {
                "distance": [round(float(value), 6) if np.isfinite(value) else None for value in search.evidence.nearest[norm]],
                "found by": [None if number < 0 else search.names[number] for number in search.evidence.finder[norm]],
            }
            for norm in plan.norms
        }
        kept = {name: found[name] for name in ("clean", "benign", "ood")}
        kept |= {"forced": search.forced("l2")} if protocol.view.rejects else {}
        kept |= {"noise": search.noise(noise)} if noise else {}
        return kept | {"each": each, "checks": checks, "calibrated": _calibrated(protocol), "steps": dict(search.steps)}


class _Search:
    """The searches on one network, and what they have found together."""

    def __init__(self, attacker, protocol, another=None):
        self.another = another
        self.attacker, self.protocol, self.plan, self.evidence = attacker, protocol, protocol.plan, protocol.evidence
        self.names, self.steps = [], collections.Counter()

    def run(self, attack, name, rows=None):
        """Takes in what an attack finds on some samples; the rows on which it succeeds."""
        protocol = self.protocol
        rows = np.arange(len(protocol.x)) if rows is None else rows
        if not len(rows):
            return rows
        only = np.isin(np.arange(len(protocol.x)), rows)
        result = attack(protocol.view, protocol.x, protocol.y, only=only, **self.batches())
        x_adv = result.x_adv[rows]
        outcomes = protocol.judged(x_adv, True, protocol.y[rows])
        found_by = getattr(result, "found_by", np.full(len(protocol.x), name))[rows]
        for one in dict.fromkeys(found_by.tolist()):
            own = found_by == one
            self.evidence.add(x_adv[own], outcomes.wrong[own], self._number(one or name), rows[own])
        self.steps[name] += int(result.steps[rows].sum())
        return rows[outcomes.wrong]

    def batches(self):
        """How many samples are attacked at once, where a search inside the model leaves room for few."""
        from tfdefense.attacks.arguments import attacked_at_once

        size = attacked_at_once(getattr(self.protocol.view, "model", None), self.protocol.x)
        return {} if size == 128 else {"batch_size": size}

    def _number(self, name):
        if name not in self.names:
            self.names.append(name)
        return self.names.index(name)

    def nearest(self):
        for norm in self.plan.norms:
            self.run(self.search(norm, self.attacker.steps), f"{NEAREST}, {norm}")

    def search(self, norm, steps, **options):
        """The minimum-norm search, along the gradients of the surrogate where the model has none."""
        from tfdefense import attacks

        situation = attacks.suites.Situation.of(self.protocol.view, (self.protocol.images.x, self.protocol.images.y), norm, 0.0)
        return situation.bpda(attacks.MinimumNorm(norm, steps=steps, starts=situation.starts, **options))

    def suite(self, name, norm, size):
        from tfdefense.attacks import suites

        suite, protocol = suites.get(name), self.protocol
        options = {"substitute": self.another} if self.another is not None and name == self.attacker.thorough else {}
        return suite.worst_case(suite.situation(protocol.view, (protocol.images.x, protocol.images.y), norm, size, **options))

    def forced(self, norm):
        """The distance of each sample's nearest rejected point, and whether it is right when clean."""
        from tfdefense.reporting.forced import search

        protocol = self.protocol
        result = search(protocol.view, norm, self.attacker.steps)(protocol.view, protocol.x, protocol.y, **self.batches())
        self.steps["forced rejection"] += int(result.steps.sum())
        distance = [round(float(d), 6) if found else None for d, found in zip(result.distance, result.success, strict=True)]
        return {"norm": norm, "distance": distance, "right": protocol.own_right.tolist()}

    def noise(self, size):
        """What is rejected of samples with random signs of that size."""
        from tfdefense import metrics

        images = self.protocol.images
        x = metrics.benign_perturbation(images.x, size, "sign", images.bounds)
        return {"size": size, "rejected": self.protocol.judged(x, y=images.y).rejection}

    def left(self, norm, size):
        return np.flatnonzero(~self.evidence.succeeded(norm, size))

    def at_sizes(self):
        for norm in self.plan.norms:
            size = self.plan.compared[norm]
            rows = self.left(norm, size)
            if len(rows):
                self.run(self.suite(self.attacker.suite, norm, size), self.attacker.suite, rows)

    def harder(self):
        """What much more work finds beyond, of a part of the samples: shares of all, and of the median distance."""
        found: dict = {}
        if not self.attacker.checked:
            return found
        for norm in self.plan.norms:
            size = self.plan.compared[norm]
            left = self.left(norm, size)
            robust, rows = len(left) / len(self.protocol.x), left[: self.attacker.checked]
            more = self.run(self.suite(self.attacker.thorough, norm, size), self.attacker.thorough, rows) if len(rows) else rows
            found[f"{self.attacker.thorough}, {norm}"] = robust * len(more) / max(1, len(rows))
        norm = self.plan.norms[-1]
        rows = np.flatnonzero(self.evidence.nearest[norm] > 0)[: self.attacker.checked]
        before = self.evidence.nearest[norm][rows].copy()
        self.run(self.search(norm, self.attacker.longer * self.attacker.steps, seed=1), f"longer {NEAREST}", rows)
        found[f"longer search, {norm}"] = _shorter(before, self.evidence.nearest[norm][rows])
        return found


def _calibrated(protocol):
    """Whether as many clean samples are rejected as was promised; a model that rejects none promises nothing."""
    from tfdefense.reporting import checks, material

    known = material.thresholds_are_calibrated(protocol.model)
    return not protocol.view.rejects or checks.calibration(protocol.findings["clean"], protocol.max_rejected, known)["passed"]


def _shorter(before, after):
    """By how much of itself the median distance falls; all of it where there was none."""
    if not len(before) or not np.isfinite(np.median(after)):
        return 0.0
    first = float(np.median(before))
    return 1.0 - float(np.median(after)) / first if np.isfinite(first) else 1.0
