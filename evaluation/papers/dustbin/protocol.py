"""Out-distribution learning: a dustbin class beside none, with OOD images and with samples between the classes.

Rows O1 to O9: adversarial samples crafted on another network, held-back OOD images, letters of another source, the same
networks under adaptive attacks, what they reject of benign perturbations, and what each of several changes makes of that.
Nothing is chosen by test samples: the length of DeepFool's perturbations and the best change are judged on training samples
that no network here has seen.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation.papers.dustbin import measure
from evaluation.papers.dustbin.measure import CARLINI, CARLINIS, DEEPFOOLS, LONGER, SEARCHES, average_error, chosen, worse_error
from evaluation.papers.dustbin.settings import NAIVE, NAIVE_BENIGN, OTHER, PAPER, PLANS, QUIET, SOURCE, changed, trainings
from evaluation.papers.intervals import wilson

DATASETS = tuple(PLANS)
TABLE, BENIGN, CHANGES, OURS = "abbasi2018.table1", "abbasi2018.ours.benign", "abbasi2018.ours.changes", "abbasi2018.ours"
RATES = ("accuracy", "rejection rate", "error rate")
UNSEEN = "unseen training samples"


def run(
    context,
    *,
    white_samples: Annotated[int | None, typer.Option(help="Samples for adaptive attacks.", min=2)] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W.", min=2)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipes'.", min=1)] = None,
    changes: Annotated[bool, typer.Option(help="Whether to train and compare the changes.")] = True,
    figures: Annotated[bool, typer.Option(help="Whether to draw.")] = True,
):
    plan, quick = PLANS[context.dataset], context.quick
    number = context.samples_or(1000, 60)
    few, white = min(number, cw_samples or (10 if quick else 100)), min(number, white_samples or (30 if quick else 500))
    known = trainings(plan, quick, **({"epochs": epochs} if epochs else {}))
    context.settings.update(
        {"recipes": ", ".join(known[network][0] for network in PAPER), "training": known[PAPER[-1]][1] or "the recipes'"}
        | {"samples": number, "C&W samples": few, "white-box samples": white}
        | {"white box": f"suite {measure.SUITE}, {measure.steps(quick)} steps"}
    )
    study = measure.Study(context, plan, known, number, few, white)
    compared = changed(plan, quick) if changes else []
    trained = [*PAPER, SOURCE, *([OTHER] if plan.other else []), *(network for network in compared if not network.threshold)]
    trained = list(dict.fromkeys([*trained, NAIVE_BENIGN] if changes else trained))
    configs = study.parts("training", measure.train, [(network,) for network in trained])
    attacks = measure.attacks(plan, quick)
    # C&W takes longest.
    crafted = [(part, name, to) for name in reversed(attacks) for to in attacks[name][1] for part in ("test", "unseen")]
    study.parts("crafting", measure.craft, crafted)
    longer = context.part("factor of DeepFool", measure.factor_that_transfers, study)
    study.factor = longer["factor"]
    found = measured(study, dict.fromkeys([*trained, *compared]))
    shares(context, {network: config for (network,), config in configs.items()})
    table1(study, found, longer)
    for network in PAPER:
        rates(context, BENIGN, network, found[network]["benign"], ("accuracy", "false-positive rate", "error rate"), row="O4")
    if plan.other:
        rejected(study, f"{OURS}.ood", OTHER, found, row="O1", trained_on=plan.other)
    attacked = PAPER
    if changes:
        best = chosen(found, compared)
        # One training may be luck: the best has to show it twice.
        again = best._replace(seed=1)
        found |= measured(study, [again])
        for network in (*compared, again):
            improvement(study, network, found)
        goals(context, found, {"best": best, "best, another seed": again, "never saw noise": QUIET})
        # The same training without a dustbin: what is the dustbin's and what the training's.
        errors(context, NAIVE_BENIGN, found[NAIVE_BENIGN])
        attacked = dict.fromkeys((*PAPER, best))
    adaptive(study, attacked)
    if figures:
        from evaluation.papers.dustbin.figures import draw

        draw(study)


def measured(study, networks):
    return {network: value for (network,), value in study.parts("measured", measure.measured, [(n,) for n in networks]).items()}


def rates(context, table, network, outcomes, metrics, **fields):
    for value in outcomes:
        for metric in metrics:
            rate = value["rejection rate" if metric == "false-positive rate" else metric]
            about = network.fields() | value["about"] | fields
            context.row(table, metric, rate, **about, interval=wilson(rate, about.get("n")))


def rejected(study, table, network, found, **fields):
    about = network.fields() | {"ood": study.plan.ood, "n": len(study.samples.ood.x)} | fields
    study.context.row(table, "rejection rate", found[network]["ood"], **about)


def average(context, table, network, error, deepfool, **fields):
    """The average over the attacks, with one form of DeepFool."""
    about = network.fields() | {"attack": "average", "deepfool": deepfool, "knowledge": "black box"} | fields
    context.row(table, "error rate", error, **about)


def shares(context, configs):
    """How large the dustbin is beside the training set, in the paper's networks and where a change has other parts in it."""
    seen = []
    for network, config in configs.items():
        if network != OTHER and config["dustbin"] and config["dustbin"] not in seen:
            seen.append(config["dustbin"])
            parts = ", ".join(" ".join(map(str, next(iter(part.items())))) for part in config["dustbin"])
            about = {"counted": "dustbin samples per training sample", "n": config["train_samples"], "note": parts, "row": "O3"}
            context.row(f"{OURS}.dustbin", "count", config["dustbin_samples"] / about["n"], **network.fields(), **about)


def table1(study, found, longer):
    """Table I, and how often each attack succeeded where it was crafted."""
    context, row, source = study.context, {"row": "O6"}, found[SOURCE]["attacks"]
    rates(context, TABLE, SOURCE, source.values(), ("error rate",), **row, knowledge="adaptive")
    for name in CARLINIS:
        success = study.sets("test")[name].success
        share, note = float(success.mean()), "those that reach kappa; the others count as they were"
        about = {"attack": name, "knowledge": "adaptive", "n": len(success), "interval": wilson(share, len(success)), "note": note}
        context.row(TABLE, "success rate", share, **SOURCE.fields(), **about, **row)
    about = {"attack": LONGER, "knowledge": "black box", "factor": longer["factor"], "on": UNSEEN, "note": "chose the factor"}
    context.row(TABLE, "error rate", longer["error"], **NAIVE.fields(), **about, **row)
    for network in PAPER:
        rates(context, TABLE, network, [found[network]["clean"]], ("accuracy", "false-positive rate"), **row)
        if network != NAIVE:
            rejected(study, TABLE, network, found, **row)
        attacks = found[network]["attacks"]
        rates(context, TABLE, network, attacks.values(), RATES, **row)
        for form in DEEPFOOLS:
            average(context, TABLE, network, average_error(attacks, form), form, **row)


def errors(context, network, values):
    """Clean accuracy of a changed network and its errors under the paper's attacks."""
    for outcomes, metric in (([values["clean"]], "accuracy"), (values["attacks"].values(), "error rate")):
        rates(context, CHANGES, network, outcomes, (metric,), row="O9")
    average(context, CHANGES, network, worse_error(values["attacks"]), "the worse", row="O9")


def improvement(study, network, found):
    """What a changed network rejects of benign samples, and what it costs."""
    context, values, unseen = study.context, found[network], found[network]["unseen"]
    errors(context, network, values)
    rejected(study, CHANGES, network, found, row="O9")
    rates(context, CHANGES, network, values["benign"], ("false-positive rate",), row="O9")
    about, (unchanged, noisy) = {"row": "O9", "on": UNSEEN}, unseen["benign"]
    rates(context, CHANGES, network, [unchanged], ("accuracy",), **about)
    rates(context, CHANGES, network, [noisy], ("false-positive rate",), **about)
    average(context, CHANGES, network, worse_error(unseen["attacks"]), "the worse", **about)


def goals(context, found, choices):
    """Whether the networks of some choices met the goal."""
    for choice, network in choices.items():
        if network in found:
            about = {"counted": "goals met", "choice": choice, "row": "O9"}
            context.row(CHANGES, "count", int(measure.meets_the_goal(found, network)), **network.fields(), **about)


def adaptive(study, networks):
    """The networks under attacks that know them: each search, from the sample and from all starts, and all together."""
    # On a network that rejects nothing the selective search is the one on the margin. Carlini-Wagner takes longest.
    cases = [(network, CARLINI) for network in networks]
    cases += [(network, search) for network in networks for search in SEARCHES if network != NAIVE or search != SEARCHES[-1]]
    found, row = study.parts("adaptive", measure.adaptive, cases), study.context.row
    for network in networks:
        fields = {"table": f"{OURS}.adaptive", "row": "O9", "knowledge": "adaptive"} | network.fields()
        nearest = {name: np.array(values) for name, values in found[network, CARLINI].items()}
        success, searches = nearest["success"], [search for search in SEARCHES if (network, search) in found]
        for size in study.plan.sizes:
            about = fields | {"metric": "error rate", "norm": "linf", "epsilon": size}
            taken = {search: found[network, search][f"{size:g}"] for search in searches}
            for search, by_starts in taken.items():
                for starts, which in by_starts.items():
                    row(value=float(np.mean(which)), **about, attack=search, starts=starts, n=len(which))
            worst = np.any([by_starts["all"] for by_starts in taken.values()], axis=0)
            worst[: len(success)] |= success & (nearest["linf"] <= size)
            note = f"of {', '.join(searches)}; on the first {len(success)} also what {CARLINI} finds within this size"
            row(value=float(worst.mean()), **about, attack="worst case", n=len(worst), note=note)
        about = fields | {"attack": CARLINI, "norm": "l2", "starts": "all"}
        row(metric="error rate", value=float(success.mean()), **about, n=len(success), note="at any distance")
        middle = float(np.median(nearest["l2"][success])) if success.any() else None
        note = "of those that succeed; the smaller, the easier to mislead"
        row(metric="median distance", value=middle, **about, n=int(success.sum()), note=note)
