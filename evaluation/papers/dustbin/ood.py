"""More out-of-distribution images for the dustbin, and a wider network: does it reject what it has not seen?

Rows O1, O3 and O8 on CIFAR-10: beside the paper's networks as `dustbin` has them one whose dustbin also has drawn textures and
shapes, crops of rooms and of ImageNet's pictures, and further classes of CIFAR-100, and the same with 3.5 times the filters.
What rejection is tested on lies in no dustbin: the held-back images of `dustbin`, and the test images of each further source. On
two free CPU cores about four hours, nearly all of it the wide network's.
"""

from typing import Annotated

import typer

from evaluation.papers.dustbin import measure, protocol
from evaluation.papers.dustbin.settings import BOTH, MORE_OOD, NAIVE, PLANS, WIDE, trainings_of_more
from evaluation.papers.intervals import wilson

DATASETS = ("cifar10", "digits")
TABLE, SOURCES, BENIGN = "abbasi2018.ours.more_ood", "abbasi2018.ours.dustbin", "abbasi2018.ours.more_ood.benign"


def held_back(plan):
    """The sets whose test images rejection is tested on."""
    return plan.ood, *plan.more


def judged(study, network):
    """What a network makes of clean samples, of benign perturbations, and of the test images of each OOD set."""
    import numpy as np

    from evaluation.runner.benign import perturbed
    from tfdefense import data
    from tfdefense.view import decide

    model, test = study.model(network), study.samples.test
    few, found = test.take(slice(study.number)), {}
    for name in held_back(study.plan):
        x = data.load(name, "test", data_dir=study.context.data_dir).x
        found[name] = {"rejected": float(np.mean(decide(model, x).label == -1)), "n": len(x)}
    changed = perturbed(few.x, study.plan.perturbations)
    benign = [measure.outcome(model, x, few.y, perturbation=kind, epsilon=size) for kind, size, x in changed]
    return {"clean": measure.outcome(model, test.x, test.y), "benign": benign, "ood": found}


def run(
    context,
    *,
    width: Annotated[int | None, typer.Option(help="Filters of the wide network's first block; VGG16: 64.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipes'.", min=1)] = None,
):
    plan, quick = PLANS[context.dataset], context.quick
    known = trainings_of_more(plan, quick, width, **({"epochs": epochs} if epochs else {}))
    number = context.samples_or(1000, 60)
    study = measure.Study(context, plan, known, number, 0, 0)
    context.settings.update(
        recipes=", ".join(dict.fromkeys(recipe for recipe, _ in known.values())),
        training=known[MORE_OOD][1] or "the recipes'",
        width=width or "the recipe's",
        samples=number,
        seed=0,
        tested_on=", ".join(held_back(plan)),
    )
    configs = study.parts("training", measure.train, [(network,) for network in known])
    found = study.parts("judged", judged, [(network,) for network in known])
    sources(context, {network: config for (network,), config in configs.items()})
    for (network,), one in found.items():
        about = network.fields() | {"row": "O8"}
        n = one["clean"]["about"]["n"]
        for metric in ("accuracy", "false-positive rate"):
            share = one["clean"]["rejection rate" if metric == "false-positive rate" else metric]
            context.row(TABLE, metric, share, **about, n=n, interval=wilson(share, n))
        for name, rejected in one["ood"].items() if network != NAIVE else ():
            seen = "yes, other images" if name in seen_sources(configs[network,]) else "no"
            share, n = rejected["rejected"], rejected["n"]
            of = about | {"row": "O1", "ood": name, "source_in_dustbin": seen}
            context.row(TABLE, "rejection rate", share, **of, n=n, interval=wilson(share, n))
        if network in (BOTH, MORE_OOD, WIDE):
            protocol.rates(context, BENIGN, network, one["benign"], ("false-positive rate",), row="O4")


def seen_sources(config):
    return {part["set"] for part in config["dustbin"] or () if "set" in part}


def sources(context, configs):
    """How many samples the dustbin has of each source, beside the training set."""
    for network in (BOTH, MORE_OOD):
        config = configs[network]
        parts = ", ".join(part.get("set", "interpolated") for part in config["dustbin"])
        about = network.fields() | {"row": "O3", "n": config["train_samples"], "note": parts}
        share = config["dustbin_samples"] / config["train_samples"]
        context.row(SOURCES, "count", share, **about, counted="dustbin samples per training sample")
        # Not in the paper's table, whose numbers are shares.
        context.row(f"{TABLE}.dustbin", "count", config["dustbin_samples"], **about, counted="dustbin samples")
