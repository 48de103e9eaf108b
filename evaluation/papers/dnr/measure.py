"""What is measured of a model: under the paper's attack, in the worst case over all searches, and without an attack."""

import dataclasses
import functools
import time
import warnings

import numpy as np

SUITE = "standard-1"
_DESCENT = {"attack": "gradient descent", "norm": "l2", "knowledge": "adaptive", "starts": "sample"}
# Fields of their rows. The paper's algorithm 1 gives back its last point; the best one that it passed is the stronger attack.
ATTACKS = {
    "printed": _DESCENT | {"kept": "last point"},
    "best": _DESCENT | {"kept": "best point"},
    "worst_case": {"attack": "worst case", "norm": "l2", "knowledge": "adaptive", "starts": "all"},
}
PRINTED = ATTACKS["printed"]
# The stronger of the paper's two. Older results have one alone, with steps of equal length.
PAPERS = (None, ATTACKS["best"]["kept"])
# The paper names no step size. At each size of the perturbation that which does best on other samples counts.
STEP_SIZES = (0.03, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TOLERANCE = 1e-6
BENIGN_SAMPLES = 2000


def situation(fitted, size, more_starts=(), **options):
    """What an attacker has: the way to another class leads to any of the samples that the SVMs were fitted on."""
    from tfdefense.attacks import suites

    samples = fitted.split.data()["fitted"]
    found = suites.get(SUITE).situation(fitted.model(), samples, "l2", size, **options)
    return dataclasses.replace(found, starts=(*found.starts, *more_starts))


def descent(kind, size, step_size, steps):
    """Algorithm 1 of the paper at a step size."""
    from tfdefense.attacks import GradientDescent, MaximumConfidence

    # Once a sample is taken a best point can only stay one: the rest of the way is spared.
    about = {"keep": "last"} if kind == "printed" else {"early_stop": True}
    return GradientDescent(size, steps=steps, step_size=step_size, objective=MaximumConfidence(), tolerance=TOLERANCE, **about)


def measure(fitted, sizes, steps, benign_size, number):
    """All that a run measures of one model: a part of it."""
    clean = measure_clean(fitted.model(), *fitted.split.data()["clean"], benign_size)
    return {"clean": clean, "curves": measure_curves(fitted, sizes, steps, number)}


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


def measure_curves(fitted, sizes, steps, number):
    """Of each attack: shares at each size, the step sizes, and the largest share of samples without any gradient.

    The worst case is over the first `number` samples and goes on from what the paper's attack has left of them. A share without a
    gradient stands beside the number of samples that were attacked.
    """
    from tfdefense.metrics import security_curve

    split, found = fitted.split, {}
    x, y = split.data()["attacked"]
    search, by_paper = _Search(fitted, steps), {}
    above = [size for size in sizes if size]
    for kind in ATTACKS:
        lengths = search.step_sizes(kind, above) if kind != "worst_case" else {}

        def factory(size, seed, kind=kind, lengths=lengths):
            if kind == "worst_case":
                return lambda model, x, y, only=None: search.worst_case(size, by_paper[size], x, y, only)

            def run(model, x, y):
                result = search.run(kind, size, descent(kind, size, lengths[size], steps), x, y)
                by_paper[size] = by_paper[size].stronger(result) if size in by_paper else result
                return result

            return run

        # The paper's attack is shown as it is; only the worst case may keep what was found at a smaller size.
        worst = kind == "worst_case"
        samples = (x[:number], y[:number]) if worst else (x, y)
        curve = security_curve(fitted.model(), factory, *samples, sizes, seeds=(split.seed,), cumulative=worst)
        shares = {each: getattr(curve, each).tolist() for each in ("accuracies", "rejections", "errors")}
        zeros = max(search.zeros[kind], default=(0.0, 0))
        found[kind] = {**shares, "zero_gradient": zeros, "step_sizes": list(lengths.values()), "n": len(samples[0])}
    return found


def measure_distance(fitted, steps, number):
    """The distance of the nearest example known of each sample, None where there is none."""
    from tfdefense.attacks import MinimumNorm

    x, y = (array[:number] for array in fitted.split.data()["attacked"])
    # All starts: what it finds from the sample alone is farther.
    result = MinimumNorm(steps=steps, starts="all", seed=fitted.split.seed)(fitted.model(), x, y)
    return [float(size) if success else None for size, success in zip(result.distance, result.success, strict=True)]


class _Search:
    """Attacks on one model; remembers how many samples had no gradient, which is a row of the results and no warning."""

    def __init__(self, fitted, steps):
        self.fitted, self.steps = fitted, steps
        self.zeros = {kind: [] for kind in ATTACKS}

    def run(self, kind, size, attack, x, y, only=None):
        split = self.fitted.split
        split.context.say(f"split {split.seed}: {self.fitted.variant.name}, {kind}, l2 {size:g}")
        only = np.ones(len(x), bool) if only is None else only
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*gradient was all zeros")
            found = attack(self.fitted.model(), x, y, only=only)
        if only.any():
            self.zeros[kind].append((float(found.zero_gradient[only].mean()), int(only.sum())))
        return found

    def step_sizes(self, kind, sizes):
        """For each size the step size that leaves least of samples that nothing else looks at; of equals the shortest."""
        x, y = self.fitted.split.data()["tuning"]
        chosen = {}
        for size in sizes:
            left = {}
            for step_size in STEP_SIZES:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", message=".*gradient was all zeros")
                    left[step_size] = (~descent(kind, size, step_size, self.steps)(self.fitted.model(), x, y).success).sum()
            chosen[size] = min(left, key=left.get)
        return chosen

    def worst_case(self, size, by_paper, x, y, only):
        from tfdefense.attacks import suites

        before = by_paper.parts(len(x))[0]
        where = situation(self.fitted, size, self.fitted.more_starts(), seed=self.fitted.split.seed, substitute=self.substitute)
        waiting = ~before.success & (True if only is None else only)
        return before.stronger(self.run("worst_case", size, suites.get(SUITE).worst_case(where), x, y, waiting))

    @functools.cached_property
    def substitute(self):
        """A network of the attacker's own."""
        from tfdefense.attacks import substitute_network

        x, y = self.fitted.split.data()["fitted"]
        return substitute_network(x, y, int(y.max()) + 1, seed=self.fitted.split.seed)


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
