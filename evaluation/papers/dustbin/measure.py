"""The attacks of `evaluation/dustbin.py`: the paper's, crafted on another network, and those that know the dustbin (row O9)."""

FACTORS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
LONGER = "DeepFool, longer"


def carlini_length(quick):
    """Steps and rounds of C&W, crafted elsewhere as on the network itself."""
    return {"steps": 60, "binary_search_steps": 3} if quick else {"steps": 200, "binary_search_steps": 5}


def outcome(model, x, y, adversarial=False):
    import tfdefense as td

    found = td.evaluate(model, x, y, adversarial=adversarial)
    return {"accuracy": found.accuracy, "rejection": found.rejection, "error": found.error, "samples": len(x)}


def steps_of(plan):
    return round(plan.ball / plan.step + 0.49)


def attacks(plan, quick):
    """Name of each of the paper's attacks: the attack, its targets, and whether it takes only few samples."""
    from tfdefense.attacks import BIM, FGSM, CarliniWagner, DeepFool, LogSumExp

    # The gradient of this has the signs of cross-entropy's, and does not round to 0 where the network is sure.
    sure = {"objective": LogSumExp()}
    carlini = CarliniWagner(kappa=plan.kappa, **carlini_length(quick))
    return {
        "FGS": (FGSM(plan.epsilon, **sure), (None,), False),
        "I-FGS": (BIM(plan.ball, steps=steps_of(plan), step_size=plan.step, **sure), (None,), False),
        "T-FGS": (FGSM(plan.epsilon), ("least_likely",), False),
        "DeepFool": (DeepFool(), (None,), False),
        "C&W": (carlini, ("least_likely", "most_likely"), True),
    }


def craft(context, plan, source, parts):
    """The paper's five sets on each of some parts, of which the source has every sample right; of C&W those that reach kappa.

    Args:
        parts: By name, samples, classes, and how many of them C&W gets.
    """
    from evaluation.runner.crafted import crafted, joined

    known, made = attacks(plan, context.quick), {}
    # The slow ones first and last, where two processes begin.
    slow = [(part, name, target) for name in known if known[name][2] for part in parts for target in known[name][1]]
    fast = [(part, name, target) for name in known if not known[name][2] for part in parts for target in known[name][1]]
    jobs = [*slow[::2], *fast, *slow[1::2]]
    for part, name, target in context.turn(jobs):
        (x, y, few), (attack, _, slow) = parts[part], known[name]
        count = few if slow else len(x)
        if count:
            about = f"{name}, {part}"
            made[part, name, target] = crafted(context, about, attack, source, x[:count], y[:count], target)
    found = {}
    for part in parts:
        keys = {name: [(part, name, target) for target in known[name][1]] for name in known}
        sets = {name: joined([made[key] for key in own]) for name, own in keys.items() if own[0] in made}
        if "C&W" in sets:
            sets["C&W"] = sets["C&W"].take(sets["C&W"].success)
        found[part] = sets
    return found


def right(model, images, count):
    """The first so many samples that a model has right."""
    import numpy as np

    import tfdefense as td

    rows = np.flatnonzero(td.evaluate(model, images.x, images.y).right)[:count]
    return images.x[rows], images.y[rows]


def factor_that_transfers(naive, samples):
    """The smallest factor on DeepFool's perturbations that misleads the naive network more often than not; else the largest."""
    from evaluation.runner.crafted import lengthened

    for factor in FACTORS:
        error = outcome(naive, lengthened(samples, factor).x_adv, samples.y, True)["error"]
        if error > 0.5:
            break
    return {"factor": factor, "error": error}


def black_box(model, sets):
    return {name: outcome(model, found.x_adv, found.y, True) for name, found in sets.items() if len(found.x)}


def average_error(found, deepfool=LONGER):
    """Over the paper's attacks, with one of the two forms of DeepFool."""
    counted = [value["error"] for name, value in found.items() if name == deepfool or not name.startswith("DeepFool")]
    return sum(counted) / len(counted)


def worse_error(found):
    """The average with the form of DeepFool that does the network more harm."""
    return max(average_error(found, name) for name in found if name.startswith("DeepFool"))


def control(model, x, y, controls):
    """What a model makes of samples that nobody attacked."""
    from evaluation.runner.benign import changed

    return {name: outcome(model, made, y) for name, made in changed(x, controls).items()}


def white_box(model, naive, sizes, search, steps, x, y):
    """Which samples a search takes from the sample itself, and which from any start, within each of the growing sizes."""
    import numpy as np

    found, first, taken = {}, np.zeros(len(x), bool), np.zeros(len(x), bool)
    for size in sizes:
        # Whoever was taken within a smaller size is within this one.
        first |= SEARCHES[search](size, steps, ("sample",))(model, x, y, only=~first).success
        taken |= first
        taken |= SEARCHES[search](size, steps, starts_of(model, naive))(model, x, y, only=~taken).success
        found[f"{size:g}"] = {"sample": first.tolist(), "all": taken.tolist()}
    return found


def _pgd(objective):
    def make(size, steps, starts):
        from tfdefense import attacks

        return attacks.PGD(size, steps=steps, objective=getattr(attacks, objective)(), starts=starts, early_stop=True)

    return make


def _selective(size, steps, starts):
    from tfdefense.attacks import OrthogonalPGD

    return OrthogonalPGD(size, steps=steps, starts=starts)


# Of a network without a dustbin, which rejects nothing, the last is the first.
SEARCHES = {"Evade": _pgd("Evade"), "log-sum-exp": _pgd("LogSumExp"), "selective": _selective}


def starts_of(model, naive):
    """All starts but the sample; the undefended network's example also from the naive one, which was trained without a dustbin."""
    from tfdefense.attacks import Transferred

    return ("interpolated", "random") if model is naive else ("base", Transferred(naive), "interpolated", "random")


def carlini(model, naive, quick, x, y):
    """C&W from all starts: which samples it takes at any distance, and how far the nearest is in l2, and that one in linf."""
    import numpy as np

    from tfdefense.attacks import CarliniWagner, MaximumConfidence

    starts = ("sample", *starts_of(model, naive))
    found = CarliniWagner(starts=starts, objective=MaximumConfidence(), **carlini_length(quick))(model, x, y)
    largest = np.abs(found.x_adv - x).reshape(len(x), -1).max(1)
    return {"success": found.success.tolist(), "l2": found.distance.tolist(), "linf": largest.tolist()}
