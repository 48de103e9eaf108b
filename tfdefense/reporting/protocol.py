"""The protocol: everything that is measured on a model, in an order that is known beforehand, so that time can be told."""

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdefense import metrics
from tfdefense.attacks import BPDA, Margin, WorstCase, substitute_network, suites
from tfdefense.attacks.arguments import attacked_at_once
from tfdefense.attacks.gradients import NoGradient
from tfdefense.attacks.norms import within
from tfdefense.attacks.starts import Interpolated
from tfdefense.attacks.suites.situation import ADAPTIVE, OBLIVIOUS
from tfdefense.certificates.smoothing import certify, is_smoothed
from tfdefense.reporting import checks, forced, harder, material
from tfdefense.reporting.evidence import Evidence
from tfdefense.view import View

# So often at most harder searches are made twice as hard.
ROUNDS = 5
# So many samples at most are one task of a cluster.
TASK = 32


@dataclass(frozen=True)
class Job:
    """A piece of work: the part that it belongs to, its name, what it costs in steps of one sample, and the work itself."""

    part: str
    name: str
    cost: float
    work: Callable


class Protocol:
    """One run of the protocol on one model. `jobs` gives what there is to do; after the last one `findings` holds all numbers.

    Args:
        model: A defended model, a plain classifier, a SavedModel or a function.
        images: Samples with their classes, in the bounds of the model.
        plan: Sizes, in the units of the pixels, samples and steps.
        train: Training images for the network that transferred attacks are crafted on, or None.
        ood: Out-of-distribution images, which are none of the classes, by name.
        source: The undefended model where it can't be reached inside.
        max_rejected: What the model was calibrated to.
        suite: The attacks: a suite of `td.attacks.suites`, or its name.
        cache: A directory for finished batches of the attacks, or None.
        ray: Workers of a cluster that attack, of `td.attacks.workers`, or None.
        thorough: Whether harder searches that find more go on, twice as hard each time, until they find no more.
    """

    def __init__(
        self,
        model,
        images,
        plan,
        *,
        train=None,
        ood=None,
        source=None,
        max_rejected=0.05,
        seed=0,
        suite="standard-1",
        cache=None,
        thorough=False,
        ray=None,
    ):
        self.model, self.plan, self.seed, self.source, self.max_rejected = model, plan, seed, source, max_rejected
        self.images, self.train, self.ood = images, train, ood or {}
        self.suite = suites.get(suite) if isinstance(suite, str) else suite
        self.view = View.of(model, images.bounds)
        attacked = images.take(slice(0, plan.samples))
        self.x, self.y = attacked.x.astype("float32"), attacked.y
        self.view.expect(self.x)
        self.base = self._base()
        self.substitute, self.cache, self.thorough, self.ray = None, cache, thorough, ray
        self.findings: dict[str, Any] = {"attacks": [], "curves": {}, "benign": [], "ood": [], "checks": [], "left_out": []}
        self.outcomes = {}
        # Whether each sample was rejected after the last search, for a norm and a size.
        self.rejecting = {}
        # How far each sample is from the nearest point that is rejected, for a norm.
        self.forced: dict[str, np.ndarray] = {}

    def _base(self):
        """The undefended model as a view, or None."""
        if self.source is not None:
            return self.view.beside(self.source)
        return self.view.beside() if self.view.rejects and self.view.has_base else None

    def situation(self, norm, size):
        options = {name: getattr(self.plan, name) for name in ("steps", "restarts", "queries", "refine")}
        options |= {"seed": self.seed, "source": self.source, "substitute": self.substitute}
        return self.suite.situation(self.view, (self.images.x, self.images.y), norm, size, **options)

    def jobs(self):
        """Everything there is to do, in order."""
        count, plan = len(self.x), self.plan
        transfers = bool(plan.substitute[0]) and self.train is not None
        yield Job("clean", "clean samples and benign perturbations", count, self._without_attack)
        yield Job("ood", "out-of-distribution samples", count, self._judge_ood)
        if transfers:
            yield Job("transfer", "training a network to transfer from", 40 * count, self._train_substitute)
        for norm in plan.norms:
            size = plan.compared[norm]
            situation = self.situation(norm, size)
            for number, attacker in enumerate(self.suite.attackers):
                # The network to transfer from is not there yet when the jobs are listed.
                if attacker.fits(situation) or (transfers and attacker.transfers and norm in attacker.norms):
                    part = "transfer" if attacker.transfers else "attacks"
                    name = f"{attacker.knowledge}: {attacker.name}, {norm} {size:g}"
                    yield Job(part, name, count * attacker.passes(situation), functools.partial(self._attack, number, norm))
        for norm in plan.norms:
            situation = self.situation(norm, 1.0)
            searches = [(i, a) for i, a in enumerate(self.suite.attackers) if a.search and a.fits(situation)]
            cost = count * sum(a.passes(situation) for _, a in searches) / 2
            for size in plan.sizes(norm):
                yield Job("curves", f"worst case, {norm} {size:g}", cost, functools.partial(self._search, norm, size, searches))
            if self.base is not None:
                for name in (OBLIVIOUS, "undefended"):
                    work = functools.partial(self._simple_curve, norm, name)
                    cost = count * plan.steps * (3 if name == "undefended" else 1)
                    yield Job(f"{name} curve", f"curve, {name}, {norm}", cost, work)
        if "l2" in plan.norms and is_smoothed(self.model):
            yield Job("certificate", "certificate, l2", count * plan.votes / 100, self._certify)
        for norm in plan.norms:
            situation = self.situation(norm, 1.0)
            several = len(situation.from_sample)
            cost = count * plan.steps * (6 * several + 3 * plan.restarts + 2 * harder.FEW) / 2
            yield Job("checks", f"checks, {norm}", cost, functools.partial(self._harder, norm))
            if self.view.rejects:
                yield Job("cost", f"forced rejections, {norm}", count * plan.steps, functools.partial(forced.force, self, norm))
        yield Job("curves", "curves", 0, self._close_curves)
        yield Job("cost", "what rejection may cost", 0, functools.partial(forced.conclude, self))
        yield Job("checks", "verdict", 0, self._conclude)
        yield Job("page", "feature map and gallery", count, self._show)

    def judged(self, x, adversarial=False, y=None, model=None):
        return metrics.evaluate(model or self.view, x, self.y if y is None else y, adversarial=adversarial)

    def _without_attack(self):
        clean = self.judged(self.images.x, y=self.images.y)
        attacked = clean.select(np.arange(len(self.x)))
        self.outcomes["clean"] = clean
        ranked = None if clean.suspicion is None else metrics.risk_coverage(clean)
        self.findings["clean"] = _shares(clean) | {
            "before_rejection": clean.accuracy_before_rejection,
            "risk": clean.risk,
            "aurc": None if ranked is None else ranked.aurc,
            "risk_coverage": None if ranked is None else material.risk_coverage(ranked),
        }
        self.evidence = Evidence(self.x, attacked.wrong, self.plan.norms)
        self.own_right, self.own_wrong = attacked.right, attacked.wrong
        for change in material.benign(self.images, self.plan, self.seed):
            outcomes = self.outcomes["benign", change.about["what"]] = self.judged(change.x, y=self.images.y)
            self.findings["benign"].append(change.about | _shares(outcomes))
        self.findings["invalid"] = material.invalid(self.view, self.images.x)

    def _judge_ood(self):
        for name, x in material.ood(self.images, self.ood, self.view.bounds, self.seed).items():
            decided = self.judged(x, y=np.zeros(len(x), int))
            self.outcomes.setdefault("ood", {})[name] = (x, decided)
            self.findings["ood"].append({"what": name, "rejected": decided.rejection, "samples": len(x)})

    def _train_substitute(self):
        epochs, samples = self.plan.substitute
        # Small sets get as many steps as large ones: an attacker would train on until it works.
        steps = round(epochs * max(10_000, min(samples, len(self.train.x))) / 64)
        about = {"classes": self.view.classes, "bounds": self.train.bounds, "seed": self.seed}
        self.substitute = substitute_network(self.train.x, self.train.y, steps=steps, most=samples, **about)

    def _attack(self, number, norm):
        """One attacker on all samples, at the size where all are compared."""
        attacker, size = self.suite.attackers[number], self.plan.compared[norm]
        entry = {"name": attacker.name, "knowledge": attacker.knowledge, "norm": norm, "size": size}
        situation = self.situation(norm, size)
        attack = attacker.make(situation)
        # Of discrete codes only a search on a surrogate sees anything: the others prove nothing by being blind.
        entry["sighted"] = isinstance(attack, BPDA) if situation.coded else attacker.name.startswith("PGD")
        entry["authors"] = attacker.authors
        result = self.run_attack(attack, entry)
        if result is None:
            return
        distance = self.evidence.distance(norm, result.x_adv)
        # What lies beyond the size is beyond the attacker's means: he is left with the clean sample.
        beyond = ~within(distance, size)
        x_adv = np.where(beyond.reshape((-1,) + (1,) * (self.x.ndim - 1)), self.x, result.x_adv)
        outcomes = self.judged(x_adv, adversarial=True)
        found = self.judged(result.x_adv, adversarial=True) if beyond.any() else outcomes
        self.evidence.add(result.x_adv, found.wrong, number)
        if attacker.search:
            self.evidence.attempt(norm, size, x_adv)
        self.outcomes[(attacker.knowledge, attacker.name, norm)] = outcomes
        agrees = result.success == found.wrong
        inside = not _bounded(attack) or not beyond.any()
        low, high = self.view.bounds
        entry |= _shares(outcomes) | {
            "success_rate": float((outcomes.wrong & ~self.own_wrong).mean()),
            "distance": float(np.median(distance[found.wrong])) if found.wrong.any() else None,
            "zero_gradient": float(result.zero_gradient.mean()),
            "steps": float(result.steps.mean()),
            "honest": bool(agrees.mean() > 0.99 and inside and x_adv.min() >= low - 1e-6 and x_adv.max() <= high + 1e-6),
        }
        self.findings["attacks"].append(entry)

    def run_attack(self, attack, entry, rows=None, model=None, regardless=False):
        """The attack's result, or None where the model has no gradient to follow: that is a finding, and no reason to stop.

        Of `rows`, where they are given, each is attacked as if all were: units and random numbers are the same.
        """
        only = None if rows is None else np.isin(np.arange(len(self.x)), rows)
        options: dict[str, Any] = {"regardless": True} if regardless else {}
        options["batch_size"] = attacked_at_once(self.view.model, self.x)
        if self.ray is not None:
            # Smaller batches are more tasks. Their size, and so the numbers, do not depend on how large the cluster is.
            options |= {"ray": self.ray, "batch_size": min(options["batch_size"], TASK)}
        try:
            with warnings.catch_warnings():
                # Counted, and told by a check.
                warnings.filterwarnings("ignore", message=".*gradient was all zeros")
                return attack(model or self.view, self.x, self.y, only=only, cache=self.cache, **options)
        except NoGradient as error:
            self.findings["left_out"].append(entry | {"reason": str(error)})
            return None

    def _search(self, norm, size, searches):
        """Everything that searches, one after the other on the samples on which none has succeeded within this size yet."""
        situation = self.situation(norm, size)
        if size != self.plan.compared[norm]:
            for number, attacker in searches:
                rows = np.flatnonzero(~self.evidence.succeeded(norm, size))
                if len(rows) == 0:
                    break
                entry = {"name": attacker.name, "knowledge": attacker.knowledge, "norm": norm, "size": size}
                result = self.run_attack(attacker.make(situation), entry, rows)
                if result is not None:
                    x_adv = result.x_adv[rows]
                    self.evidence.add(x_adv, self.judged(x_adv, True, self.y[rows]).wrong, number, rows)
                    self.evidence.attempt(norm, size, x_adv, rows)
        outcomes = self.judged(self.evidence.worst(norm, size), adversarial=True)
        if size == self.plan.compared[norm]:
            self.outcomes[("worst case", norm)] = outcomes
        self.rejecting[norm, size] = outcomes.rejected
        self._point(norm, ADAPTIVE, size)

    def _point(self, norm, name, size, **values):
        curve = self.findings["curves"].setdefault(norm, {}).setdefault(name, {"sizes": []})
        curve["sizes"].append(size)
        for key, value in values.items():
            curve.setdefault(key, []).append(value)

    def _simple_curve(self, norm, name):
        """Oblivious PGD, judged by the defended model; or against the undefended one, all that it has."""
        model = self.view if name == OBLIVIOUS else self.base
        wrong = self.judged(self.x, model=model).wrong
        before = Evidence(self.x, wrong, (norm,))
        for size in self.plan.sizes(norm):
            rows = np.flatnonzero(~before.succeeded(norm, size))
            outcomes = result = None
            if len(rows):
                entry = {"name": "PGD", "knowledge": name, "norm": norm, "size": size}
                attack = self.situation(norm, size).plain(early_stop=name == "undefended")
                if name == "undefended":
                    starts = ("sample", "random", *(s for s in self.situation(norm, size).starts if isinstance(s, Interpolated)))
                    attack = dataclasses.replace(attack, objective=Margin(), starts=starts)
                result = self.run_attack(attack, entry, rows, self.base, regardless=name == OBLIVIOUS)
            if result is not None:
                outcomes = self.judged(result.x_adv[rows], True, self.y[rows], model)
                before.add(result.x_adv[rows], outcomes.wrong, rows=rows)
            rejected = 0.0 if outcomes is None else outcomes.rejected.sum() / len(self.x)
            self._point(norm, name, size, robust_accuracy=before.robust_accuracy(norm, size), rejected=float(rejected))
        if name == "undefended":
            # Its own: a defense may have scores of its own.
            self.findings["curves"][norm][name]["start"] = float(1 - wrong.mean())

    def _certify(self):
        """What is proved of a smoothed model: a lower bound under the curve of the attacks, which is an upper one."""
        found = certify(self.model, self.x, self.y, samples=self.plan.votes, seed=self.seed)
        for size in self.plan.sizes("l2"):
            self._point("l2", "certified", size, robust_accuracy=found.accuracy(size))
        self.findings["curves"]["l2"]["certified"]["start"] = found.accuracy()

    def _harder(self, norm):
        """Whether other searches find more, at the size where robust accuracy is about a half; and how the steps go."""
        robust = {size: self.evidence.robust_accuracy(norm, size) for size in self.plan.sizes(norm)}
        # Where next to none are left there is nothing to find: the check would pass whatever the search is worth.
        left = [size for size in robust if robust[size] > checks.LITTLE] or list(robust)
        size = min(left, key=lambda s: abs(robust[s] - 0.5))
        plan, situation = self.plan, self.situation(norm, size)
        finder = self.evidence.finder[norm][self.evidence.succeeded(norm, size)]
        found = {"norm": norm, "size": size, "samples": len(self.x), "gains": {}}
        going, rounds = None, 0
        while going is None or (self.thorough and going and rounds < ROUNDS):
            rows = np.flatnonzero(~self.evidence.succeeded(norm, size))
            if not self.thorough:
                rows = rows[: max(10, plan.samples // 2)]
            found.setdefault("tried", len(rows))
            waiting = self.evidence.robust_accuracy(norm, size)
            found.setdefault("waiting", waiting)
            for name, attacks in harder.trials(self.suite, self.view, situation, finder, 2**rounds).items():
                if going is None or name in going:
                    found["gains"][name] = self._gain(name, attacks, norm, size, rows, waiting)
            going = [name for name, gain in found["gains"].items() if gain is not None and gain > checks.MORE]
            rounds += 1
        found["rounds"] = rounds
        some = np.flatnonzero(self.own_right)[:64]
        try:
            attack = situation.bpda(situation.plain(epsilon=plan.compared[norm], early_stop=False))
            path = attack.path(self.view, self.x[some], self.y[some]) if len(some) else np.zeros((1, 0))
            found |= {"path": path.mean(1).tolist() if len(some) else [], "progress": checks.progress(path)}
        except NoGradient:
            found |= {"path": [], "progress": 0.0}
        self.findings.setdefault("harder", []).append(found)

    def _gain(self, name, attacks, norm, size, rows, waiting):
        """Which share of all samples attacks break, of those that were waiting; None where none of them could be run."""
        evades, ran = np.zeros(len(rows), bool), len(rows) == 0
        for attack in attacks:
            still = np.flatnonzero(~evades)
            entry = {"name": name, "knowledge": ADAPTIVE, "norm": norm, "size": size}
            result = self.run_attack(attack, entry, rows[still]) if len(still) else None
            if result is not None:
                ran = True
                x_adv = result.x_adv[rows[still]]
                evades[still] = self.judged(x_adv, True, self.y[rows[still]]).wrong
                self.evidence.add(x_adv, evades[still], rows=rows[still])
        # Those tried stand for all that were still waiting. Of none there is nothing to find; without a result no word on it.
        return float(evades.mean() * waiting) if ran and len(rows) else 0.0 if ran else None

    def _close_curves(self):
        for norm, curves in self.findings["curves"].items():
            # Harder searches, and those at other sizes, may have found more since the point was taken.
            succeeded = {size: self.evidence.succeeded(norm, size) for size in curves[ADAPTIVE]["sizes"]}
            curves[ADAPTIVE]["robust_accuracy"] = [float(1 - wrong.mean()) for wrong in succeeded.values()]
            curves[ADAPTIVE]["rejected"] = [float((self.rejecting[norm, s] & ~wrong).mean()) for s, wrong in succeeded.items()]

    def _conclude(self):
        self.findings["only"] = checks.only(self.outcomes, self.plan, len(self.x))
        calibrated = material.thresholds_are_calibrated(self.model)
        self.findings["checks"] = checks.all_checks(self.findings, self.plan, self.max_rejected, self.view.rejects, calibrated)
        self.findings["verdict"] = checks.verdict(self.findings, self.plan)

    def _show(self):
        self.findings["roc"] = material.rocs(self.outcomes, self.view.rejects)
        self.findings["gallery"] = material.gallery(self)
        self.findings["map"] = material.feature_map(self)


def _bounded(attack):
    """Whether an attack, or each of those that it is made of, stays in a ball."""
    if isinstance(attack, WorstCase):
        return all(_bounded(one) for one in attack.named.values())
    return hasattr(getattr(attack, "attack", attack), "epsilon")


def _shares(outcomes):
    return {
        "right": outcomes.accuracy,
        "rejected": outcomes.rejection,
        "wrong": outcomes.error,
        "robust_accuracy": outcomes.robust_accuracy,
        "samples": len(outcomes),
    }


def run(protocol, begin=lambda name, done, total: None, times=None, without=()):
    """Does every job in turn, but for those of the parts in `without`.

    `begin` hears the name of each, the cost before it and that of all; `times` gets the seconds.
    """
    jobs = [job for job in protocol.jobs() if job.part not in without]
    total, done = sum(job.cost for job in jobs), 0
    for job in jobs:
        begin(job.name, done, total)
        begun = time.perf_counter()
        job.work()
        if times is not None:
            times.append({"what": job.name, "seconds": time.perf_counter() - begun})
        done += job.cost
    return protocol.findings
