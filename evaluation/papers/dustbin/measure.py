"""What is measured of each network: under the paper's attacks, crafted on another network, and under adaptive ones (row O9)."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evaluation.papers.dustbin.settings import CLEAN_LOSS, CONFIDENCE, GOAL, NAIVE, SOURCE, Plan

CLASSES = 10  # of every data set here
FACTORS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
LONGER = "DeepFool, longer"
DEEPFOOLS = ("DeepFool", LONGER)
CARLINI, AT_ZERO, REACHED = "Carlini-Wagner", "Carlini-Wagner, kappa 0", "Carlini-Wagner, reaching kappa"
CARLINIS = (CARLINI, AT_ZERO)


class Samples:
    """Test samples, training samples that no network has seen, and held-back OOD images."""

    def __init__(self, context, plan):
        from tfdefense import data

        options = {"data_dir": context.data_dir}
        train, self.test = (data.load(context.dataset, part, **options) for part in ("train", "test"))
        # Two parts: one sets a threshold, the other judges.
        unseen = train.take(slice(plan.seen, None))
        self.unseen, self.calibration = unseen.take(slice(0, None, 2)), unseen.take(slice(1, None, 2))
        self.ood = data.load(plan.ood, "test", **options)


@dataclass
class Study:
    """What the parts of a run share. Where it is sent to another process it makes samples, networks and attacks anew there."""

    context: Any
    plan: Plan
    trainings: dict  # recipe and settings of every network
    number: int  # samples of the paper's attacks
    few: int  # of C&W
    white: int  # of adaptive attacks
    factor: float = 1.0  # how many times as long DeepFool's perturbations are, where they are longer
    made: dict = field(default_factory=dict)

    def __getstate__(self):
        return self.__dict__ | {"made": {}}

    def parts(self, name, function, cases):
        """Results of `function(study, *case)` by case, by whoever works on the run."""
        parts = {f"{name}, {', '.join(map(str, case))}": (function, self, *case) for case in cases}
        return dict(zip(cases, self.context.parts(parts).values(), strict=True))

    def _once(self, name, make, *arguments):
        if name not in self.made:
            self.made[name] = make(*arguments)
        return self.made[name]

    @property
    def samples(self):
        return self._once("samples", Samples, self.context, self.plan)

    def path(self, network):
        recipe, settings = self.trainings[network._replace(threshold=None, seed=0)]
        return self.context.network(recipe, **settings | ({"seed": network.seed} if network.seed else {}))

    def model(self, network):
        """The network as a model that may reject, where it has a dustbin."""
        return self._once(network, self._model, network)

    def _model(self, network):
        import keras

        import tfdefense.layers  # noqa: F401 - the network may have some of them

        model = keras.models.load_model(self.path(network), compile=False)
        return rejecting(model, network.threshold, self) if model.output_shape[-1] > CLASSES else model

    def right(self, part):
        """The first samples of a part that the network which attacks are crafted on has right."""
        import tfdefense as td

        images, count = getattr(self.samples, part), self.number if part == "test" else max(10, self.number // 2)
        rows = np.flatnonzero(td.evaluate(self.model(SOURCE), images.x, images.y).right)[:count]
        return images.x[rows], images.y[rows]

    def crafted(self, part, name, target):
        """One of the paper's attacks on samples of a part, or None where it gets none."""
        attack, _, _ = attacks(self.plan, self.context.quick)[name]
        x, y = self._once(f"right, {part}", self.right, part)
        count = len(x) if name not in CARLINIS else self.few if part == "test" else self.few // 2
        if not count:
            return None
        return self.context.adversarial(f"{name}, {part}", attack, self.model(SOURCE), x[:count], y[:count], target)

    def sets(self, part):
        """The paper's five sets, C&W's also at kappa 0, and DeepFool's with longer perturbations.

        Where C&W does not reach kappa it leaves the sample as it is, and so it counts.
        """
        sets = self._once(f"sets, {part}", self._sets, part)
        return sets | {LONGER: sets["DeepFool"].lengthened(self.factor)}

    def _sets(self, part):
        found = {}
        for name, (_, targets, _) in attacks(self.plan, self.context.quick).items():
            if made := [crafted for target in targets if (crafted := self.crafted(part, name, target))]:
                found[name] = type(made[0])(*map(np.concatenate, zip(*made, strict=True)))
        return found


def rejecting(network, threshold, study):
    """A network with a dustbin as a model that rejects; a threshold is set on samples that the network has not seen."""
    import tfdefense as td
    from tfdefense.metrics import benign_perturbation

    if not threshold:
        return td.DustbinDefense().attach(network)
    x = study.samples.calibration.x
    if threshold == CONFIDENCE:
        model = td.AnyOf(td.DustbinDefense(), td.ThresholdDefense()).attach(network)
    else:
        model, (kind, size) = td.DustbinDefense(threshold=None).attach(network), study.plan.perturbations[0]
        x = benign_perturbation(x, size, kind, seed=1)
    td.calibrate(model, x, max_rejected=0.05)
    return model


def carlini_length(quick):
    """Steps and rounds of C&W, crafted elsewhere as on the network itself."""
    return (60, 3) if quick else (200, 5)


def attacks(plan, quick):
    """Name of each of the paper's attacks: the attack, its targets, and its fields in rows."""
    from tfdefense.attacks import BIM, FGSM, CarliniWagner, DeepFool, LogSumExp

    # The gradient of this has the signs of cross-entropy's, and does not round to 0 where the network is sure.
    sure, steps = {"objective": LogSumExp()}, round(plan.ball / plan.step + 0.49)
    carlini_steps, rounds = carlini_length(quick)
    carlini = CarliniWagner(kappa=plan.kappa, steps=carlini_steps, binary_search_steps=rounds)
    least = dataclasses.replace(carlini, kappa=0.0)
    fast, iterative = ({"norm": "linf", "epsilon": size} for size in (plan.epsilon, plan.ball))
    return {
        "FGS": (FGSM(plan.epsilon, **sure), (None,), fast),
        "I-FGS": (BIM(plan.ball, steps=steps, step_size=plan.step, **sure), (None,), iterative),
        "T-FGS": (FGSM(plan.epsilon), ("least_likely",), fast),
        "DeepFool": (DeepFool(), (None,), {"norm": "l2"}),
        CARLINI: (carlini, ("least_likely", "most_likely"), {"norm": "l2", "kappa": plan.kappa}),
        AT_ZERO: (least, ("least_likely", "most_likely"), {"norm": "l2", "kappa": 0.0}),
    }


def outcome(model, x, y, adversarial=False, **about):
    """Shares of samples right, rejected and wrong, and what the row about them says."""
    import tfdefense as td

    found = td.evaluate(model, x, y, adversarial=adversarial)
    rates = {"accuracy": found.accuracy, "rejection rate": found.rejection, "error rate": found.error}
    return rates | {"about": about | {"n": len(x)}}


def black_box(study, model, part):
    """Outcomes under the paper's attacks by name. The length of the perturbations is a condition of what is measured."""
    known, found = attacks(study.plan, study.context.quick), {}
    for name, crafted in study.sets(part).items():
        if len(crafted.x):
            length = np.linalg.norm((crafted.x_adv - crafted.x).reshape(len(crafted.x), -1), axis=1)
            about = {"norm": "l2", "factor": study.factor} if name == LONGER else known[name][2]
            about = about | {"attack": name, "median_l2": round(float(np.median(length)), 3), "knowledge": "black box"}
            found[name] = outcome(model, crafted.x_adv, crafted.y, True, **about)
    if CARLINI in study.sets(part) and (reached := study.sets(part)[CARLINI]).success.any():
        reached, about = reached.take(reached.success), known[CARLINI][2] | {"attack": REACHED, "knowledge": "black box"}
        found[REACHED] = outcome(model, reached.x_adv, reached.y, True, **about)
    return found


def average_error(found, deepfool=LONGER):
    """Over the paper's attacks, with one of the two forms of DeepFool; C&W at its kappa, all that were tried."""
    left_out = (*DEEPFOOLS, AT_ZERO, REACHED)
    counted = [value["error rate"] for name, value in found.items() if name == deepfool or name not in left_out]
    return sum(counted) / len(counted)


def worse_error(found):
    """The average with the form of DeepFool that does the network more harm."""
    return max(average_error(found, name) for name in found if name in DEEPFOOLS)


def judged(values):
    """What a change is judged by."""
    unchanged, noisy = values["benign"][:2]
    return {"goal": noisy["rejection rate"], "clean": unchanged["accuracy"], "black_box": worse_error(values["attacks"])}


def least_clean(found):
    """The accuracy on unseen samples that a change must keep."""
    return judged(found[NAIVE]["unseen"])["clean"] - CLEAN_LOSS


def chosen(found, compared):
    """Of the changes that keep clean and benign samples the one with the smallest black-box error, on unseen samples.

    Of none, the one that keeps most benign samples of those that keep clean ones; at last, of all.
    """
    of = {network: judged(found[network]["unseen"]) for network in compared}
    clean = [network for network in of if of[network]["clean"] >= least_clean(found)] or list(of)
    quiet = [network for network in clean if of[network]["goal"] < GOAL]
    return min(quiet or clean, key=lambda network: of[network]["black_box" if quiet else "goal"])


def meets_the_goal(found, network):
    """Whether few noisy samples are rejected, few attacks succeed, and little clean accuracy is lost on unseen samples."""
    test, unseen = judged(found[network]), judged(found[network]["unseen"])
    return test["goal"] < GOAL and test["black_box"] < GOAL and unseen["clean"] >= least_clean(found)


# Parts of a run


def train(study, network):
    """What the dustbin of a network is made of; trains the network where it is not in the cache."""
    config = json.loads((study.path(network).parent / "config.json").read_text())
    return {name: config.get(name) for name in ("dustbin", "dustbin_samples", "train_samples")}


def craft(study, *arguments):
    study.crafted(*arguments)


def factor_that_transfers(study):
    """The smallest factor on DeepFool's perturbations that misleads the naive network more often than not; else the largest."""
    samples = study.sets("unseen")["DeepFool"]
    for factor in FACTORS:
        found = outcome(study.model(NAIVE), samples.lengthened(factor).x_adv, samples.y, True)
        if found["error rate"] > 0.5:
            break
    return {"factor": factor, "error": found["error rate"]}


def measured(study, network):
    """What a network makes of clean, OOD and benignly perturbed samples and of the paper's attacks.

    `unseen` has the same of training samples that no network has seen, with the first of the perturbations alone: what is
    chosen is chosen by it.
    """
    from evaluation.runner.benign import perturbed
    from tfdefense.view import decide

    model, samples, plan = study.model(network), study.samples, study.plan

    def benign(images, perturbations):
        changed = perturbed(images.x, perturbations)
        return [outcome(model, x, images.y, perturbation=kind, epsilon=size) for kind, size, x in changed]

    return {
        "clean": outcome(model, samples.test.x, samples.test.y),
        "ood": float(np.mean(decide(model, samples.ood.x).label == -1)),
        "benign": benign(samples.test.take(slice(study.number)), plan.perturbations),
        "attacks": black_box(study, model, "test"),
        "unseen": {"benign": benign(samples.unseen, plan.perturbations[:1]), "attacks": black_box(study, model, "unseen")},
    }


SUITE = "dustbin-2"
SEARCHES = ("PGD", "log-sum-exp", "selective PGD")


def steps(quick):
    return 20 if quick else 100


def adaptive(study, network, search):
    """Which samples a search of the suite takes from the sample itself, and which from any start, within each growing size.

    Of Carlini-Wagner which it takes at any distance, and how far the nearest is in l2, and that one in linf.
    """
    from tfdefense.attacks import Transferred, suites

    suite, model, images = suites.get(SUITE), study.model(network), study.samples.test.take(slice(study.white))
    # The undefended network's example also from the naive one, which was trained without a dustbin.
    starts = ("interpolated", "random") if network == NAIVE else ("base", Transferred(study.model(NAIVE)), "interpolated", "random")
    options = {"starts": starts, "steps": steps(study.context.quick), "refine": carlini_length(study.context.quick)}
    if search == CARLINI:
        images = images.take(slice(study.few))
        attack = suite.attacks(suite.situation(model, (images.x, images.y), "l2", None, **options))[search]
        found = attack(model, images.x, images.y)
        largest = np.abs(found.x_adv - images.x).reshape(len(images.x), -1).max(1)
        return {"success": found.success.tolist(), "l2": found.distance.tolist(), "linf": largest.tolist()}
    x, y = images.x, images.y
    found, first, taken = {}, np.zeros(len(x), bool), np.zeros(len(x), bool)
    for size in study.plan.sizes:
        attacks = suite.attacks(suite.situation(model, (x, y), "linf", size, **options))
        # Whoever was taken within a smaller size is within this one.
        first |= attacks[f"{search} from the sample"](model, x, y, only=~first).success
        taken |= first
        taken |= attacks[search](model, x, y, only=~taken).success
        found[f"{size:g}"] = {"sample": first.tolist(), "all": taken.tolist()}
    return found
