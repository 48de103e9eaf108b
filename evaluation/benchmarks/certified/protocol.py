"""Certified beside attacked: what randomised smoothing proves of a network trained with noise, and what an attack leaves of it.

Certified accuracy is a lower bound of the robust accuracy of the majority over all noise; accuracy under attack is an upper bound
of that of the model, which knows some fixed copies. The truth lies between, unless the attack breaks a sample that is certified:
then it has learned the copies. What is certified is right; nothing is proved of a rejection.

Cohen et al. (2019) draw 100,000 votes at the same alpha, from a ResNet-110 for CIFAR-10: their radii reach farther.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

DATASETS = ("mnist", "cifar10", "digits")
MAX_REJECTED, CALIBRATES, ALPHA = 0.05, 2000, 0.001
SMOOTHED, ALONE = "smoothed", "no defense"
BENIGN = (("sign", 0.15), ("gaussian", 0.1))


@dataclass(frozen=True)
class Setup:
    """What the protocol does on one data set.

    Args:
        networks: Recipes, and the deviation of the noise that each was trained with.
        sizes: In l2, at which certificate and attack stand beside each other.
        grid: Further sizes of the certified curve.
        seen: Training samples that the networks have seen; of the others the first 2,000 calibrate.
        settings: Of all recipes.
        benign: Kinds and sizes of benign perturbations.
        copies: Of each sample, in the graph.
        votes: Of each sample, for its radius.
        samples, attacked: So many test samples are certified; the first of them are attacked.
        steps: Of each search.
    """

    networks: dict
    sizes: tuple
    grid: tuple
    seen: int
    settings: dict
    benign: tuple = BENIGN
    copies: int = 64
    votes: int = 10_000
    samples: int = 500
    attacked: int = 100
    steps: int = 40


SETUPS = {
    "mnist": Setup(
        networks={"mnist_noise": 0.5, "mnist_noise_more": 0.75},
        sizes=(0.5, 1.0, 1.5),
        grid=(0.25, 0.75, 1.25, 1.75, 2.0),
        seen=45_000,
        settings={},
    ),
    "cifar10": Setup(
        networks={"cifar10_noise": 0.25},
        sizes=(0.25, 0.5),
        grid=(0.1, 0.4, 0.6, 0.75),
        seen=40_000,
        settings={},
        benign=(("sign", 8 / 255), ("gaussian", 0.02)),
        # A step costs fifteen times that of the MNIST network.
        attacked=50,
        steps=30,
    ),
    "digits": Setup(
        networks={"digits_noise": 0.25},
        sizes=(0.25, 0.5),
        grid=(0.75,),
        seen=1100,
        settings={"train_samples": 1100},
        copies=16,
        votes=1000,
        samples=100,
        attacked=50,
    ),
}


def build(context, recipe, setup):
    """The smoothed network, calibrated on samples that it has not seen."""
    import keras

    import tfdefense as td

    train = td.data.load(context.dataset, "train", data_dir=context.data_dir)
    held_out = train.take(slice(setup.seen, None)).take(slice(0, CALIBRATES))
    network = keras.models.load_model(context.network(recipe, **setup.settings), compile=False)
    defended = td.Smoothed(setup.networks[recipe], samples=setup.copies).attach(network)
    td.calibrate(defended, held_out.x, max_rejected=MAX_REJECTED)
    return defended


def model_of(context, recipe, setup):
    return context.model(f"model {recipe}", build, context, recipe, setup)


def certified(context, recipe, setup, count):
    """Class and radius of each sample, and the classes."""
    import tfdefense as td

    test = td.data.load(context.dataset, "test", data_dir=context.data_dir, limit=count)
    found = td.certify(model_of(context, recipe, setup), test.x, test.y, alpha=ALPHA, samples=setup.votes)
    return {"right": found.right.tolist(), "radius": found.radius.tolist(), "abstains": int((found.label < 0).sum())}


def clean(context, recipe, setup, count):
    """Outcomes of clean and benignly perturbed samples, of the smoothed network and of the one inside."""
    import tfdefense as td
    from evaluation.runner.benign import perturbed

    test, model = td.data.load(context.dataset, "test", data_dir=context.data_dir, limit=count), model_of(context, recipe, setup)
    found = {}
    for kind, _, x in perturbed(test.x, setup.benign):
        both = {SMOOTHED: td.evaluate(model, x, test.y), ALONE: td.evaluate(td.base_model(model), x, test.y)}
        found[kind] = {name: [one.accuracy, one.rejection] for name, one in both.items()}
    return found


def attacked(context, recipe, setup, system, count):
    """By size which samples an attack makes wrong, and which of them are rejected."""
    import tfdefense as td

    test = td.data.load(context.dataset, "test", data_dir=context.data_dir, limit=count)
    model = model_of(context, recipe, setup)
    model = model if system == SMOOTHED else td.base_model(model)
    suite, found, worst = td.attacks.suite("quick-1"), {}, None
    for size in setup.sizes:
        situation = suite.situation(model, (test.x, test.y), "l2", size, steps=setup.steps)
        worst = suite.worst_case(situation)(model, test.x, test.y, after=worst)
        # Broken within a smaller size is broken within this one, too.
        found[str(size)] = (worst.success & (worst.distance <= size * (1 + 1e-5))).tolist()
    return found


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One network, by its recipe.")] = None,
    copies: Annotated[int | None, typer.Option(help="Copies of each sample in the graph.", min=2)] = None,
):
    import dataclasses

    context.refuse_a_part(only)
    setup = SETUPS[context.dataset]
    recipes = [recipe for recipe in setup.networks if only in (None, recipe)]
    if not recipes:
        raise ValueError(f"`--only` must be one of {', '.join(setup.networks)}. Received {only!r}.")
    if context.quick:
        setup = dataclasses.replace(setup, copies=8, votes=200, attacked=4, steps=3, sizes=setup.sizes[:1])
    setup = dataclasses.replace(setup, copies=copies or setup.copies)
    count = context.samples_or(setup.samples, 20)
    first = min(count, setup.attacked)
    context.settings.update(
        networks={recipe: context.network(recipe, **setup.settings).parent.name for recipe in recipes},
        copies=setup.copies,
        votes=setup.votes,
        alpha=ALPHA,
        calibrated=f"at most {CALIBRATES} held-out samples, {MAX_REJECTED} of them rejected",
        attack=f"quick-1 at each size, {setup.steps} steps, on what was left by the smaller ones",
    )
    parts = {}
    for recipe in recipes:
        parts[recipe, "clean"] = (clean, context, recipe, setup, count)
        parts[recipe, "certified"] = (certified, context, recipe, setup, count)
        for system in (SMOOTHED, ALONE):
            parts[recipe, system] = (attacked, context, recipe, setup, system, first)
    done = context.parts({", ".join(name): part for name, part in parts.items()})
    for recipe in recipes:
        add_rows(context, recipe, setup, {name: done[f"{recipe}, {name}"] for name in ("clean", "certified", SMOOTHED, ALONE)})


def add_rows(context, recipe, setup, found):
    """Rows of one network. Intervals are Wilson's; the doubt in each radius, which is alpha, is not in them."""
    from tfdefense.metrics import share_interval

    def share(metric, value, count, **fields):
        context.row("certified", metric, value, **about, n=count, interval=share_interval(value, count), **fields)

    about, right, radius = {"base": recipe}, np.array(found["certified"]["right"]), np.array(found["certified"]["radius"])
    for kind, systems in found["clean"].items():
        size = dict(setup.benign).get(kind)
        for system, (accuracy, rejected) in systems.items():
            fields = {"system": system, "perturbation": kind, "epsilon": size}
            share("accuracy", accuracy, len(right), **fields)
            if system == SMOOTHED:
                share("false-positive rate", rejected, len(right), **fields)
    for size in sorted({0.0, *setup.sizes, *setup.grid}):
        proved = right & (radius > size)
        share("certified accuracy", float(proved.mean()), len(right), system=SMOOTHED, norm="l2", epsilon=size)
    for system in (SMOOTHED, ALONE):
        for size in setup.sizes:
            broken = np.array(found[system][str(size)])
            attack = {"system": system, "attack": "quick-1", "norm": "l2", "epsilon": size, "knowledge": "adaptive"}
            share("robust accuracy", float(1 - broken.mean()), len(broken), **attack)
            if system == SMOOTHED:
                proved = (right & (radius > size))[: len(broken)]
                note = "certified samples that the attack breaks: it knows the copies"
                context.row("certified", "count", int((proved & broken).sum()), **about, **attack, n=int(proved.sum()), note=note)
    context.row("certified", "passes", float(setup.copies + 1), **about, system=SMOOTHED, note="of the network for a prediction")
