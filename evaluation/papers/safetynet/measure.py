"""The attacks of `evaluation/safetynet.py`: who knows what, and what each leaves undetected of samples that were right."""

import math

import numpy as np

from evaluation.papers.detector.settings import strongest
from evaluation.papers.safetynet.fit import CONFIDENCE, PLAIN
from evaluation.runner.benign import shown
from evaluation.runner.crafted import crafted

PAPERS = "smoothed, from the sample, as in the paper"
OPEN = (PAPERS, "smoothed, all starts", "straight-through, selective, all starts", "straight-through, log-sum-exp, all starts")
# A branch has attacks of its own.
ON_A_BRANCH = "every search of the protocol `detector`, all starts"
TRANSFERRED = ("another network", "one tuned on its adversarial samples", "one with a branch")
ASKING = ("outputs", "labels, linf")
BLACK = (*TRANSFERRED, *ASKING)
# It looks for the smallest change.
SMALLEST = "Carlini-Wagner, l2"
# From where the surrogate leads to the real model, for gradients alone.
STRAIGHT = ((5.0, 2.0), (20.0, 1.0))


def white_box(guard):
    return (*OPEN, ON_A_BRANCH) if guard == "branch" else OPEN


def thresholds(guard):
    """Which of the two a model is measured at: a plain one has none, and for a confidence none is the paper's."""
    return ("half",) if guard in PLAIN else ("calibrated",) if guard == CONFIDENCE else ("half", "calibrated")


def tried_on(guard):
    """Of type II. On a plain model, whose gradients nothing masks, those that ask must find what the others find."""
    return (*white_box(guard), *BLACK, SMALLEST)


def title(attack, guard):
    if attack in TRANSFERRED:
        return f"black box, transferred from {attack}"
    if attack in BLACK:
        return {"outputs": "black box by outputs (Square)"}.get(attack, "black box by labels (HopSkipJump)")
    if guard in (*PLAIN, CONFIDENCE, "branch"):
        # Nothing of them is smoothed.
        attack = attack.removeprefix("smoothed, ").removeprefix("straight-through, ")
    return f"white box, {attack}"


def type_one(setting, name):
    """Shares that are misclassified and not rejected, of attacks on the undefended classifier; at both thresholds.

    Beside the sizes that all learn from, the one of type II.
    """
    import tfdefense as td

    setting = setting.of(name)
    y = setting.test[1]
    tried = dict.fromkeys((*setting.chosen, f"iterative linf {shown(setting.codes.size)}"))
    found = {}
    for about in thresholds(name):
        guard = setting.guard(name, 0.0 if about == "half" else None)
        found[about] = {one: td.evaluate(guard, setting.twins(one), y, adversarial=True).error for one in tried}
    return found


def type_two(setting, name, attack):
    """For each sample whether it is misclassified and not rejected, by an attack that knows that there may be a detector."""
    import tfdefense as td

    own = setting.of(name)
    guard, (x, y) = own.guard(name), own.test
    if attack in TRANSFERRED:
        wrong = td.evaluate(guard, transferred(setting, attack, x, y), y, adversarial=True).wrong
        return {"missed": wrong.tolist(), "zero gradient": 0.0}
    count = setting.budget["strongest" if attack in white_box(name) else "asked"] if attack != PAPERS else len(x)
    # The others stay what a start may move towards, and what the units of the objective are measured on.
    result = made(setting, guard, attack)(guard, x, y, only=np.arange(len(x)) < count)
    missed, distance = result.success[:count], result.distance[:count]
    if attack == "labels, linf":
        # It looks for the smallest distance: beyond the size of the others it is no success.
        missed = missed & (distance <= setting.codes.size * (1 + 1e-6))
    return {
        "missed": missed.tolist(),
        "zero gradient": float(result.zero_gradient[:count].mean()),
        "reached": result.success[:count].tolist(),
        "distance": [float(value) for value in distance],
    }


def made(setting, guard, attack):
    """The attack on a model: through its surrogate where there is one, else on itself."""
    from tfdefense.attacks import BPDA, PGD, CarliniWagner, HopSkipJump, LogSumExp, OrthogonalPGD, Square
    from tfdefense.attacks.bpda import SCHEDULE
    from tfdefense.attacks.surrogate import can_be_smoothed

    size, steps, queries = setting.codes.size, setting.budget["steps"], setting.budget["queries"]
    if attack == ON_A_BRANCH:
        return strongest(size, steps)
    if attack == "outputs":
        return Square(size, queries=queries)
    if attack.startswith("labels"):
        return HopSkipJump(attack.split(", ")[1], queries=queries)
    pgd, smooth = {"steps": steps, "early_stop": True}, can_be_smoothed(guard)
    # As many steps on a model that has no surrogate as on those of every stage of one.
    rounds = 3 if smooth else 3 * len(SCHEDULE)
    search = {
        SMALLEST: CarliniWagner(steps=max(2, 2 * steps), binary_search_steps=rounds),
        PAPERS: PGD(size, starts="sample", **pgd),
        OPEN[1]: PGD(size, starts="all", restarts=3, **pgd),
        OPEN[2]: OrthogonalPGD(size, steps=steps, starts="all", restarts=3),
        OPEN[3]: PGD(size, starts="all", restarts=3, objective=LogSumExp(), **pgd),
    }[attack]
    if not smooth:
        return search
    return BPDA(search, exact_forward=False) if attack.startswith("smoothed") or attack == SMALLEST else BPDA(search, STRAIGHT)


def transferred(setting, name, x, y):
    """Samples crafted on a network that the attacker has, against its own branch where it has one."""
    from tfdefense.attacks import PGD

    # On to the best point: what stands just across the other network's boundary stays on this one's right side.
    attack = PGD(setting.codes.size, steps=setting.budget["steps"], starts="all")
    return crafted(setting.context, f"on {name}", attack, setting.sources()[name](), x, y, regardless=True).x_adv


def together(missed, attacks):
    """Whether any of the attacks got past the model, for the samples that all of them were tried on."""
    count = min(len(missed[attack]) for attack in attacks)
    return np.any([missed[attack][:count] for attack in attacks], axis=0)


def summary(missed, guard):
    """Rows on one model: the strongest of each kind for each sample, and what that says of its gradients."""
    tried = tuple(attack for attack in BLACK if attack in missed)
    white, black = together(missed, white_box(guard)), together(missed, tried)
    count = min(len(white), len(black))
    # Fewer are asked about than searched for in the open: what they add counts, and takes nothing away.
    every = white.copy()
    for attack in tried:
        own = np.array(missed[attack][: len(every)])
        every[: len(own)] |= own
    yield {
        "what": f"not fooled, strongest white-box attack for each sample, {guard}",
        "ours": float(1 - white.mean()),
        "samples": len(white),
    }
    yield {"what": f"not fooled, strongest black-box attack, {guard}", "ours": float(1 - black.mean()), "samples": len(black)}
    yield {
        "what": f"not fooled, strongest of all attacks, {guard}",
        "ours": float(1 - every.mean()),
        "samples": len(every),
    }
    if guard in PLAIN:
        return
    yield {
        "what": f"missed, white box less black box, {guard}",
        "ours": float(white[:count].mean() - black[:count].mean()),
        "samples": count,
        "note": verdict(white[:count], black[:count]),
    }


def verdict(white, black):
    """In plain words whether gradients are masked; of the same samples, whether each kind of attack got past the model."""
    only_black, only_white = int((black & ~white).sum()), int((white & ~black).sum())
    found = f"{white.mean():.3f} against {black.mean():.3f} missed; {only_black} of {len(white)} fall to the black box alone"
    if not (white | black).any():
        return f"neither gets past it: undecided ({found})"
    # How often a fair coin would favour either side as much: a sample more or less proves nothing.
    decided, larger = only_black + only_white, max(only_black, only_white)
    chance = 2 * sum(math.comb(decided, count) for count in range(larger, decided + 1)) / 2**decided
    if only_white >= only_black:
        if chance >= 0.05:
            return f"white box as bad for the defender as black box: no sign of masked gradients ({found})"
        return f"white box worse for the defender than black box: gradients are not masked ({found})"
    if chance >= 0.05:
        return f"black box worse for the defender, but by so few samples that chance may do it: undecided ({found})"
    return f"black box worse for the defender than white box: gradients are masked, the white box is too kind ({found})"
