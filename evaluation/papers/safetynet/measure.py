"""What is measured of a model: detection, false positives, and errors under attackers who know more or less of it."""

import math
from typing import NamedTuple

import numpy as np

from evaluation.papers.safetynet.fit import CONFIDENCE, PLAIN, fields
from evaluation.runner.benign import perturbed

# The paper's, and the one that rejects 5 % of held-out clean samples.
THRESHOLDS = {"0": 0.0, "5 % FPR": None}


class Search(NamedTuple):
    """An attack of type II; `through` is what stands in place of a SafetyNet, which has no gradient."""

    attack: str
    starts: str = ""
    through: str = ""
    knowledge: str = "adaptive"
    norm: str = "linf"
    suite: str = ""

    def fields(self, guard):
        """Its fields in a row about that model: in others than a SafetyNet nothing is replaced."""
        return self._asdict() | {"through": self.through if fields(guard)["detector"] else ""}


_SURROGATE, _TRANSFER = "differentiable surrogate", "transfer from "
# The suite `safetynet-1`, and on a branch the one of its own.
PAPERS = Search("PGD", "sample", _SURROGATE)
OPEN = (PAPERS, Search("PGD", "all", _SURROGATE), Search("selective PGD", "all", "BPDA"), Search("log-sum-exp", "all", "BPDA"))
ON_A_BRANCH = Search("worst case", "all", suite="detector-2")
SOURCES = ("another network", "one tuned on its adversarial samples", "one with a branch")
TRANSFERRED = tuple(Search(f"{_TRANSFER}{source}", knowledge="black box") for source in SOURCES)
LABELS = Search("HopSkipJump", knowledge="black box")
BLACK = (*TRANSFERRED, Search("Square", knowledge="black box"), LABELS)
# It looks for the smallest perturbation.
SMALLEST = Search("Carlini-Wagner", through=_SURROGATE, norm="l2")


def white_box(guard):
    return (*OPEN, ON_A_BRANCH) if guard == "branch" else OPEN


def at_zero(guard):
    """Attacks of type II that are also judged at the paper's own rule, f(c) > 0: those in the open, and transfers."""
    return () if guard in PLAIN or guard == CONFIDENCE else (*white_box(guard), *TRANSFERRED)


def thresholds(guard):
    """Which of the two a model is measured at: a plain one has none, and for a confidence none is the paper's."""
    return ("0",) if guard in PLAIN else ("5 % FPR",) if guard == CONFIDENCE else tuple(THRESHOLDS)


def detection(setting, name, fitted_on, tested):
    """What a detector fitted on some adversaries says of clean samples and of each of the adversaries."""
    import tfdefense as td
    from tfdefense.metrics import auc, detectability
    from tfdefense.view import decide

    branch = name == "branch"
    fitted = None if branch else setting.net(name, fitted_on)
    found = {}
    for title, threshold in THRESHOLDS.items():
        if branch:
            layer = setting.layer(setting.adversaries[fitted_on[0]].kind)
            fitted = setting.detector(fitted_on, layer, threshold=threshold)
        elif threshold is None:
            td.calibrate(fitted, setting.held_out.x, max_rejected=0.05)
        clean = decide(fitted, setting.test[0]).suspicion
        # The others are for the curve against the classifier's accuracy, which the paper draws at its own threshold.
        attacked = {
            one: decide(fitted, setting.attacked_samples(one)).suspicion for one in (tested if title == "0" else setting.chosen)
        }
        found[title] = {one: detectability(clean, values) for one, values in attacked.items()}
        found[title]["false positives"] = float((clean > 0).mean())
    # With several detectors the relation of their thresholds counts: it is that of equal rates here.
    found["auc"] = {one: auc(clean, values) for one, values in attacked.items()}
    found["clean"], found["attacked"] = clean.tolist(), {one: attacked[one].tolist() for one in setting.chosen}
    return found


def control(setting, name):
    """What a model rejects of samples that nobody attacked, by threshold: kind, size and rate of each benign perturbation."""
    import tfdefense as td

    # Noise as large as the attacks is among them.
    tested = dict.fromkeys((*setting.plan.tested, ("sign", setting.codes.size)))
    every, found = perturbed(setting.attacked.x, tested), {}
    for title in thresholds(name):
        guard = setting.of(name).guard(name, THRESHOLDS[title])
        found[title] = [(kind, size, td.evaluate(guard, x, setting.attacked.y).rejection) for kind, size, x in every]
    return found


def type_one(setting, name):
    """Shares that are misclassified and not rejected, of attacks on the undefended classifier, by threshold.

    Beside the sizes that all learn from, the one of type II.
    """
    import tfdefense as td

    setting, found = setting.of(name), {}
    further = [one for one, it in setting.adversaries.items() if it.kind == "iterative linf" and it.size == setting.codes.size]
    tried = dict.fromkeys((*setting.chosen, *further))
    for title in thresholds(name):
        guard = setting.guard(name, THRESHOLDS[title])
        found[title] = {
            one: td.evaluate(guard, setting.attacked_samples(one), setting.test[1], adversarial=True).error for one in tried
        }
    return found


def type_two(setting, name, search, title="5 % FPR"):
    """For each sample whether it is misclassified and not rejected, by an attack that knows that there may be a detector.

    The attack knows the threshold of that title too: at another one it searches anew.
    """
    import tfdefense as td

    own = setting.of(name)
    guard, (x, y) = own.guard(name, THRESHOLDS[title]), own.test
    if search in TRANSFERRED:
        x_adv = transferred(setting, search.attack.removeprefix(_TRANSFER), x, y)
        return {"missed": td.evaluate(guard, x_adv, y, adversarial=True).wrong.tolist(), "zero gradient": 0.0}
    count = len(x) if search == PAPERS else setting.budget["strongest" if search in white_box(name) else "asked"]
    # The others stay what a start may move towards, and what the units of the objective are measured on.
    result = made(setting, guard, search)(guard, x, y, only=np.arange(len(x)) < count)
    missed, distance = result.success[:count], result.distance[:count]
    if search == LABELS:
        # It looks for the smallest distance: beyond the size of the others it is no success.
        missed = missed & (distance <= setting.codes.size * (1 + 1e-6))
    found = {"missed": missed, "reached": result.success[:count], "distance": distance.astype(float)}
    return {key: values.tolist() for key, values in found.items()} | {"zero gradient": float(result.zero_gradient[:count].mean())}


def made(setting, guard, search):
    """The attack on a model: through its surrogate where there is one, else on itself."""
    from tfdefense.attacks import suites

    suite = suites.get(search.suite or "safetynet-2")
    options = {name: setting.budget[name] for name in ("steps", "queries")}
    situation = suite.situation(guard, setting.test, search.norm, setting.codes.size, **options)
    if search == ON_A_BRANCH:
        return suite.worst_case(situation)
    kind = " from the sample" if search.starts == "sample" else ", black box" if search in BLACK else ""
    return suite.attacks(situation)[f"{search.attack}{kind}"]


def transferred(setting, source, x, y):
    """Samples crafted on a network that the attacker has, against its own branch where it has one."""
    from tfdefense.attacks import PGD

    # On to the best point: what stands just across the other network's boundary stays on this one's right side.
    attack = PGD(setting.codes.size, steps=setting.budget["steps"], starts="all")
    return setting.context.adversarial(f"on {source}", attack, setting.source(source), x, y, regardless=True).x_adv


def together(missed, searches):
    """Whether any of these searches got past the model, for each sample that all of them were tried on."""
    count = min(len(missed[search]) for search in searches)
    return np.any([missed[search][:count] for search in searches], axis=0)


def worst_cases(missed, guard):
    """Whether any attack got past the model, for each sample: of those in the open, of the black boxes, and of all."""
    white, black = together(missed, white_box(guard)), together(missed, BLACK)
    # Fewer are asked about than searched for in the open: what they add counts, and takes nothing away.
    every = white.copy()
    for search in BLACK:
        own = np.array(missed[search][: len(every)])
        every[: len(own)] |= own
    return {"white-box": white, "black-box": black, "all": every}


def gradients(white, black):
    """Whether gradients are masked, and on how many samples the black box alone succeeds; of both whether they do, for each."""
    only_black, only_white = int((black & ~white).sum()), int((white & ~black).sum())
    # How often a fair coin would favour either side as much: a sample more or less proves nothing.
    decided, larger = only_black + only_white, max(only_black, only_white)
    chance = 2 * sum(math.comb(decided, count) for count in range(larger, decided + 1)) / 2**decided
    if chance >= 0.05:
        return "undecided" if only_black > only_white or not white.any() else "no sign of masking", only_black
    return "masked" if only_black > only_white else "not masked", only_black
