"""Whether one minimum-norm run finds as near an example of each sample as a suite does that goes from size to size.

The models are the zoo's, the sizes the report's. No card has attacked the samples, but for digits, where there are no others. The
suite runs without its own minimum-norm search; what it finds at one size counts at each larger one. Its distance is that of the
nearest example found.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks.zoo import divided
from evaluation.benchmarks.zoo_entries import ENTRIES, SUITE

DATASETS = ("digits", "mnist", "cifar10")
# Cards attack the first samples.
FIRST = {"digits": 0, "mnist": 500, "cifar10": 500}
NO_FARTHER = 1.02


def compared(context, name, norm, number):
    """Of both searches each sample's distance, None where nothing was found, and the iterations."""
    from tfdefense import attacks, zoo
    from tfdefense.reporting.plan import plan_for

    first = FIRST[context.dataset]
    *_, test = divided(context, ENTRIES[name])
    images, model, found = test.take(slice(first, first + number)), zoo.load(name), None
    samples = (images.x, images.y)
    # Along the gradients of the surrogate where the model has none.
    situation = attacks.suites.Situation.of(model, samples, norm, 0.0)
    nearest = situation.bpda(attacks.MinimumNorm(norm, starts=situation.starts))(model, *samples)
    suite, distance = attacks.suite(SUITE), np.full(len(images.x), np.inf)
    for size in plan_for(context.dataset, images.x.shape[1:], quick=context.quick).sizes(norm):
        situation = suite.situation(model, samples, norm, size)
        found = suite.worst_case(situation, without=("minimum norm",))(model, *samples, after=found)
        distance = np.minimum(distance, np.where(found.success, found.distance, np.inf))
    own = np.where(nearest.success, nearest.distance, np.inf)
    # The steps of all sizes: each result goes on from that of the size before.
    iterations = [float(result.steps.mean()) for result in (nearest, found)]
    return {"nearest": _plain(own), "sweep": _plain(distance), "iterations": iterations}


def _plain(distance):
    return [float(value) if np.isfinite(value) else None for value in distance]


def run(context, *, only: Annotated[str | None, typer.Option(help="One model, by its name.")] = None):
    context.refuse_a_part(only)
    names = [name for name, entry in ENTRIES.items() if entry.dataset == context.dataset and only in (None, name)]
    if not names:
        raise ValueError(f"`--only` must be a model of the zoo for {context.dataset}. Received {only!r}.")
    number = context.samples_or(50, 8)
    context.settings.update(suite=f"{SUITE} without its minimum-norm search, at the report's sizes", samples=number)
    keys = {f"{name}, {norm}": (name, norm) for name in names for norm in ("linf", "l2")}
    parts = {key: (compared, context, *what, number) for key, what in keys.items()}
    for key, found in context.parts(parts).items():
        add_rows(context, *keys[key], found)


def add_rows(context, name, norm, found):
    """Clean errors have the distance 0 for both, and count for neither."""
    own, sweep = (np.array([np.inf if value is None else value for value in found[key]]) for key in ("nearest", "sweep"))
    own, sweep = own[sweep > 0], sweep[sweep > 0]
    about = {"system": name, "norm": norm, "n": len(own), "attack": "minimum norm"}
    no_farther = np.isfinite(own) & (own <= NO_FARTHER * sweep) | np.isinf(sweep)
    context.row("nearest", "no farther", float(no_farther.mean()), **about)
    for attack, distance, iterations in zip(("minimum norm", "sweep"), (own, sweep), found["iterations"], strict=True):
        middle = float(np.median(distance))
        context.row("nearest", "median distance", middle if np.isfinite(middle) else None, **about | {"attack": attack})
        context.row("nearest", "iterations", iterations, **about | {"attack": attack})
