"""The attacks of `dnr` and `dnr_trained`, the paper's from the sample and the strongest of all starts, and their control."""

import dataclasses
import warnings

METHODS = ("DNN", "NR", "DNR")
ATTACKS = {"paper": "from the sample, as in the paper", "strongest": "strongest of all starts"}
STRONGEST = "the paper's objective, then log-sum-exp, selective PGD, and selective PGD through wider kernels, from all starts"
HARMLESS_SAMPLES = 2000


def attack(size, steps, seed=0, starts="sample", early_stop=True):
    """The paper's objective by PGD, which gives its best point; the paper takes the last one and steps along the bare gradient.

    Whoever is taken is taken, so that curves need no more steps; pictures do without the early stop. As the paper it stops
    from the sample where a step changes next to nothing; where kernels are flat that would give up too soon.
    """
    from tfdefense.attacks import PGD, MaximumConfidence

    tolerance = 1e-6 if starts == "sample" else None
    search = {"objective": MaximumConfidence(), "tolerance": tolerance, "early_stop": early_stop}
    return PGD(size, norm="l2", steps=steps, starts=starts, seed=seed, **search)


def other_starts(model, pool):
    """All starts but the sample; the way to another class leads to any of the samples that the machines were fitted on."""
    from tfdefense.attacks import Interpolated

    return (*(["base"] if rejects(model, pool[0]) else []), Interpolated(pool), "random")


def rejects(model, x):
    from tfdefense.view import View

    view = View.of(model)
    view.expect(x)
    return view.rejects


def later_searches(model, size, steps, seed, starts, rejecting):
    """What is tried after the paper's attack: its objective from the other starts, then other searches from all of them."""
    from tfdefense.attacks import LogSumExp, OrthogonalPGD, Through
    from tfdefense.attacks.surrogate import can_be_smoothed

    search, everywhere = attack(size, steps, seed, starts), ("sample", *starts)
    found = [search, dataclasses.replace(search, objective=LogSumExp(), starts=everywhere, seed=seed + 1000)]
    if rejecting:
        selective = OrthogonalPGD(size, norm="l2", steps=steps, starts=everywhere, seed=seed + 2000)
        found.append(selective)
        if can_be_smoothed(model):
            # Narrow kernels are flat where a sample is far from all vectors.
            found.append(Through(selective, straight_through=True))
    return found


def measure_curves(split, method, sizes, steps, model=None):
    """Accuracy and rejection at each size under both attacks, and the largest share of samples without any gradient.

    The strongest of all starts goes on from what the paper's attack has left. A share without a gradient stands beside the
    number of samples that were attacked.
    """
    from tfdefense.attacks import Strongest
    from tfdefense.metrics import security_curve

    model = model or split.attackable(method)
    starts = (*other_starts(model, split.data["fitted"]), *split.more_starts)
    rejecting = rejects(model, split.data["fitted"][0])
    by_paper, zeros = {}, {kind: [] for kind in ATTACKS}

    def told(kind, size, search, x, y, only=None):
        split.context.say(f"split {split.seed}: {method}, {ATTACKS[kind]}, l2 {size:g}")
        with warnings.catch_warnings():
            # Its share is a row of the results.
            warnings.filterwarnings("ignore", message=".*gradient was all zeros")
            return search(model, x, y, only=only)

    def count(kind, without):
        if len(without):
            zeros[kind].append((float(without.mean()), len(without)))

    def paper(size, seed):
        def run(model, x, y):
            by_paper[size] = told("paper", size, attack(size, steps, seed), x, y)
            count("paper", by_paper[size].zero_gradient)
            return by_paper[size]

        return run

    def strongest(size, seed):
        searches = later_searches(model, size, steps, seed, starts, rejecting)

        def run(model, x, y, only=None):
            first = by_paper[size]
            waiting = ~first.success if only is None else ~first.success & only
            rest = Strongest(searches, until_success=True)
            later = told("strongest", size, rest, x, y, only=waiting)
            count("strongest", later.zero_gradient[waiting])
            found = first.stronger(later)
            # From the sample the paper's attack stops where a step changes next to nothing: once more, to the end.
            stopped = waiting & ~found.success & (first.steps < steps)
            if not stopped.any():
                return found
            return found.stronger(told("strongest", size, attack(size, steps, seed, ("sample",)), x, y, only=stopped))

        return run

    found = {}
    for kind, factory in (("paper", paper), ("strongest", strongest)):
        # The paper's attack is shown as it is; only the strongest may keep what it has found at a smaller size.
        options = {"seeds": (split.seed,), "cumulative": kind == "strongest"}
        curve = security_curve(model, factory, *split.data["attacked"], sizes, **options)
        shares = {name: getattr(curve, name).tolist() for name in ("accuracies", "rejections", "errors")}
        found[kind] = {**shares, "zero_gradient": max(zeros[kind], default=(0.0, 0))}
    return found


def harmless_rejected(model, x, size):
    """Share that a model rejects of samples after changes that nobody would call an attack, by name."""
    from evaluation.runner.benign import changed
    from tfdefense.view import View, decide

    view, changes = View.of(model), changed(x[:HARMLESS_SAMPLES], (("direction", size), ("dim", 0.3), ("shift", 1)))
    return {name: float((decide(view, made).label == -1).mean()) for name, made in changes.items() if name != "unchanged"}
