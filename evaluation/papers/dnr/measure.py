"""What is measured of a model: under the paper's attack, in the worst case over all searches, and without an attack."""

import dataclasses
import time
import warnings

import numpy as np

# The paper's attack with its best point, where the paper takes the last one and steps along the bare gradient; then other searches.
SUITE = "dnr-2"
# Fields of their rows.
ATTACKS = {
    "paper": {"attack": "PGD", "norm": "l2", "knowledge": "adaptive", "starts": "sample"},
    "worst_case": {"attack": "worst case", "norm": "l2", "knowledge": "adaptive", "starts": "all"},
}
BENIGN_SAMPLES = 2000


def situation(fitted, size, steps, more_starts=(), **options):
    """What an attacker has: the way to another class leads to any of the samples that the SVMs were fitted on."""
    from tfdefense.attacks import suites

    samples = fitted.split.data()["fitted"]
    found = suites.get(SUITE).situation(fitted.model(), samples, "l2", size, steps=steps, **options)
    return dataclasses.replace(found, starts=(*found.starts, *more_starts))


def measure(fitted, sizes, steps, benign_size):
    """All that a run measures of one model: a part of it."""
    clean = measure_clean(fitted.model(), *fitted.split.data()["clean"], benign_size)
    return {"clean": clean, "curves": measure_curves(fitted, sizes, steps)}


def measure_clean(model, x, y, size):
    """Accuracy and false-positive rate on samples that nobody attacked, and the rate under each benign perturbation."""
    import tfdefense as td
    from evaluation.runner.benign import perturbed
    from tfdefense.view import View, decide

    outcomes, benign = td.evaluate(model, x, y), []
    if View.of(model).rejects:
        kinds = (("direction", size), ("dim", 0.3), ("shift", 1))
        for kind, amount, made in perturbed(x[:BENIGN_SAMPLES], kinds)[1:]:
            benign.append((kind, float(amount), float((decide(model, made).label == -1).mean())))
    return {"accuracy": outcomes.accuracy, "rejection": outcomes.rejection, "samples": len(outcomes), "benign": benign}


def measure_curves(fitted, sizes, steps):
    """Accuracy and rejection at each size under both attacks, and the largest share of samples without any gradient.

    The worst case goes on from what the paper's attack has left. A share without a gradient stands beside the number of samples
    that were attacked.
    """
    from tfdefense.attacks import suites
    from tfdefense.metrics import security_curve

    split, more_starts = fitted.split, fitted.more_starts()
    suite, by_paper, zeros = suites.get(SUITE), {}, {kind: [] for kind in ATTACKS}

    def searched(kind, size, search, model, x, y, only):
        split.context.say(f"split {split.seed}: {fitted.variant.name}, {ATTACKS[kind]['attack']}, l2 {size:g}")
        with warnings.catch_warnings():
            # Its share is a row of the results.
            warnings.filterwarnings("ignore", message=".*gradient was all zeros")
            found = search(model, x, y, only=only)
        if only.any():
            zeros[kind].append((float(found.zero_gradient[only].mean()), int(only.sum())))
        return found

    def paper(size, seed):
        attack = suite.attacks(situation(fitted, size, steps, seed=seed))["paper"]

        def run(model, x, y):
            by_paper[size] = searched("paper", size, attack, model, x, y, np.ones(len(x), bool))
            return by_paper[size]

        return run

    def worst_case(size, seed):
        others = suite.worst_case(situation(fitted, size, steps, more_starts, seed=seed), without=("paper",))

        def run(model, x, y, only=None):
            waiting = ~by_paper[size].success & (True if only is None else only)
            return by_paper[size].stronger(searched("worst_case", size, others, model, x, y, waiting))

        return run

    found = {}
    for kind, factory in (("paper", paper), ("worst_case", worst_case)):
        # The paper's attack is shown as it is; only the worst case may keep what was found at a smaller size.
        options = {"seeds": (split.seed,), "cumulative": kind == "worst_case"}
        curve = security_curve(fitted.model(), factory, *split.data()["attacked"], sizes, **options)
        shares = {each: getattr(curve, each).tolist() for each in ("accuracies", "rejections", "errors")}
        found[kind] = {**shares, "zero_gradient": max(zeros[kind], default=(0.0, 0))}
    return found


def measure_speed(fitted, compressed, repeats=7):
    """Seconds to fit, the time of a prediction beside the plain network's, and what compressing costs."""
    import tfdefense as td
    from tfdefense.view import View

    x, y = fitted.split.data()["clean"]

    def once(model):
        view, start = View.of(model), time.perf_counter()
        view.run(x[:256])[2].numpy()
        return time.perf_counter() - start

    def all_of(model):
        pairs = [(once(model), once(plain)) for _ in range(repeats + 1)][1:]
        ratio = float(np.median([mine for mine, _ in pairs]) / np.median([other for _, other in pairs]))
        outcomes, vectors = (
            td.evaluate(model, x, y),
            [layer.vectors for layer in model.layers if isinstance(layer, td.layers.RBFSVM)],
        )
        found = {"accuracy": outcomes.accuracy, "rejection": outcomes.rejection, "samples": len(outcomes)}
        return found | {"ratio": ratio, "vectors": vectors}

    plain = fitted.split.load(fitted.variant.base)
    nr = dataclasses.replace(fitted, variant=dataclasses.replace(fitted.variant, system="NR"))
    seconds = {one.variant.system: one.fit()[1] for one in (fitted, nr)}
    return {"all support vectors": all_of(fitted.model()), "compressed": all_of(compressed.model()), "seconds": seconds}
