"""Deep Neural Rejection: accuracy and rejection against the l2 size of a perturbation, beside Neural Rejection and no defense.

Each model is attacked by the paper's algorithm, with its last point and with its best, and by a suite of searches from all starts,
of which the worst case counts for each sample. Draws the curves, adversarial examples and the problem in the plane of the paper's
figure 2.
"""

from dataclasses import replace
from typing import Annotated

import typer

from evaluation.papers.dnr import rows
from evaluation.papers.dnr.fit import Fitted, Split, Variant
from evaluation.papers.dnr.measure import STEP_SIZES, SUITE, measure, measure_curves, measure_distance, measure_speed
from evaluation.papers.dnr.settings import PLANS

DATASETS = ("mnist", "cifar10", "digits")
SYSTEMS = ("no defense", "NR", "DNR")


def run(
    context,
    *,
    splits: Annotated[int | None, typer.Option(help="Random splits; 5, as in the paper, or 1 in a quick run.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the paper's attack; 100, or 20 in a quick run.", min=1)] = None,
    worst_case: Annotated[int | None, typer.Option(help="Samples of the worst case; 300, or 30 in a quick run.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Samples that the SVMs are fitted on.", min=50)] = None,
    vectors: Annotated[int, typer.Option(help="Compress each SVM to so many support vectors before the attack.", min=0)] = 0,
    figures: Annotated[bool, typer.Option(help="Whether to draw.")] = True,
):
    # All of it now: what is edited in the meantime is not of this run.
    from evaluation.papers.dnr.figures import draw

    plan = PLANS[context.dataset]
    sizes = plan.sizes[:: 2 if context.quick else 1]
    splits = splits or (1 if context.quick else 5)
    steps = steps or (20 if context.quick else 100)
    fitted = fitted or min(plan.fitted, 1000 if context.quick else plan.fitted)
    number = context.samples_or(1000, 60)
    few = min(number, worst_case or (30 if context.quick else 300))
    every = [Split(plan, seed, number, fitted, context) for seed in range(splits)]
    context.settings.update(
        network=f"{plan.recipe} ({every[0].network(plan.recipe).parent.name})",
        layers=", ".join(plan.layers),
        steps=steps,
        step_sizes=f"the best of {', '.join(f'{one:g}' for one in STEP_SIZES)} on other samples, at each size",
        suite=SUITE,
        hyper_parameters=f"C and gamma of each layer by 5-fold cross-validation on {min(plan.searched, fitted):,} of the samples",
        fitted=fitted,
        calibrated=plan.calibrated,
        max_rejected=plan.max_rejected,
        vectors=vectors or "all",
        samples=number,
    )
    first, some = every[0], replace(every[0], number=max(2, few // 3))
    whole = Variant("DNR", search=True)
    compared = {"all support vectors": whole, "compressed": replace(whole, vectors=vectors or 300)}
    # Here and before the others work on the rest: the times are those of a machine that does nothing else.
    speed = context.part("speed", measure_speed, *(Fitted(variant, first) for variant in compared.values()))
    parts = {
        name: (measure_curves, Fitted(variant, some), (plan.compared,), steps, some.number) for name, variant in compared.items()
    }
    models = {
        (split, system): Fitted(_variant(system, vectors), split)
        # What takes long comes first: no process is left with it alone.
        for system in reversed(SYSTEMS)
        for split in every
    }
    parts |= {
        f"split {at.seed}, {system}": (measure, one, sizes, steps, plan.compared, few) for (at, system), one in models.items()
    }
    parts |= {f"split {at.seed}, {system}, distance": (measure_distance, one, steps, few) for (at, system), one in models.items()}
    found, curves = context.parts(parts), {}
    for system in SYSTEMS:
        runs = [found[f"split {split.seed}, {system}"] for split in every]
        # The network without a defense is the same on the same samples each time.
        clean = [one["clean"] for one in runs][: 1 if system == "no defense" else None]
        fields = Variant(system).fields
        rows.add_clean(context, rows.CLEAN, "N5", clean, **fields)
        measured = [one["curves"] for one in runs]
        curves[system] = rows.joined(measured, sizes)
        rows.add_curves(context, rows.FIGURE, "N5", curves[system], measured, **fields)
        rows.add_distance(context, [found[f"split {split.seed}, {system}, distance"] for split in every], **fields)
    rows.add_orders(context, curves, plan, number)
    rows.add_cost(context, speed, {name: found[name] for name in compared}, float(plan.compared))
    if figures:
        draw(context, {system: models[first, system] for system in SYSTEMS}, curves, plan.shown, steps)
    # Added at last: more splits than in an earlier run need no part of it again.
    context.settings["splits"] = splits


def _variant(system, vectors):
    return Variant(system) if system == "no defense" else Variant(system, search=True, vectors=vectors)
