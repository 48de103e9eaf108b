"""What makes Deep Neural Rejection hold for real: kernels, layers, end-to-end training, and adversarial training (row N8).

Each change is one row: robust accuracy under the paper's attack from the sample and in the worst case over attacks, at the same
false-positive rate. The plain and the adversarially trained network stand in the same table, with and without rejection.
Everything is fixed before the test samples are seen: nothing is chosen by these numbers.
"""

from typing import Annotated

import typer

from evaluation.papers.dnr import rows
from evaluation.papers.dnr.fit import ROBUST, Fitted, Split, Variant
from evaluation.papers.dnr.measure import STEP_SIZES, SUITE, measure
from evaluation.papers.dnr.settings import PLANS

DATASETS = ("mnist", "digits")
END_TO_END = {"detector": "fine-tuned end to end, adversarially", "vectors": 500, "tune": "all", "adversarial": True}
FINE_TUNED = Variant("no defense", ROBUST, "fine-tuned as long", tune="all", adversarial=True)
CONFIDENCE = Variant("confidence", ROBUST, "fine-tuned as long", on=FINE_TUNED)
# The row that the goal is about, named before any number was known.
NAMED = Variant("DNR", ROBUST, **END_TO_END)
VARIANTS = (
    Variant("no defense"),
    Variant("NR"),
    Variant("DNR"),
    Variant("DNR", detector="gamma / 4", gamma="0.25*scale"),
    Variant("DNR", detector="gamma * 4", gamma="4*scale"),
    Variant("DNR", detector="C and gamma by cross-validation", search=True),
    Variant("DNR", detector="one more layer, earlier", layers="one more"),
    Variant("DNR", detector="two more layers, earlier", layers="two more"),
    Variant("DNR", detector="earlier layers alone", layers="earlier"),
    Variant("DNR", detector="compressed", vectors=500),
    Variant("DNR", detector="SVMs fine-tuned, clean", vectors=500, tune="SVMs"),
    Variant("DNR", detector="fine-tuned end to end, clean", vectors=500, tune="all"),
    Variant("DNR", **END_TO_END),
    Variant("no defense", ROBUST),
    FINE_TUNED,
    CONFIDENCE,
    Variant("NR", ROBUST),
    Variant("DNR", ROBUST),
    NAMED,
)
# All of them in one picture could not be told apart.
DRAWN = (Variant("no defense"), Variant("DNR"), Variant("DNR", **END_TO_END), FINE_TUNED, CONFIDENCE, Variant("DNR", ROBUST), NAMED)


def run(
    context,
    *,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of an attack; 100, or 20 in a quick run.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training end to end; 5, or 1 in a quick run.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Samples that the SVMs are fitted on.", min=50)] = None,
):
    from tfdefense.plots import security_curve

    dataset, quick = context.dataset, context.quick
    plan, sizes = PLANS[dataset], PLANS[dataset].trained_sizes
    steps, epochs = steps or (20 if quick else 100), epochs or (1 if quick else 5)
    fitted = fitted or min(plan.fitted, 1000 if quick else plan.fitted)
    number = context.samples_or(300, 60)
    split = Split(plan, 0, number, fitted, context)
    context.settings.update(
        networks=", ".join(split.network(recipe).parent.name for recipe in (plan.recipe, plan.robust)),
        steps=steps,
        epochs=epochs,
        fitted=fitted,
        calibrated=plan.calibrated,
        max_rejected=plan.max_rejected,
        attacked_size=plan.trained,
        step_sizes=f"the best of {', '.join(f'{one:g}' for one in STEP_SIZES)} on other samples, at each size",
        suite=SUITE,
        splits=f"one; the standard error of a share near a half is {0.5 / number**0.5:.3f}",
    )
    # What takes long comes first: no process is left with it alone.
    ordered = sorted(VARIANTS, key=lambda variant: not variant.tune)
    parts = {variant.name: (measure, Fitted(variant, split, epochs), sizes, steps, plan.trained, number) for variant in ordered}
    found, drawn = context.parts(parts), {}
    for variant in VARIANTS:
        one = found[variant.name]
        rows.add_clean(context, rows.VARIANTS, "N3", [one["clean"]], **variant.fields)
        curves = rows.joined([one["curves"]], sizes)
        rows.add_curves(context, rows.VARIANTS, "N8", curves, [one["curves"]], clean_rejection=False, **variant.fields)
        drawn[variant] = curves["worst_case"]
    folder = context.output / f"dnr_trained-{dataset}"
    folder.mkdir(parents=True, exist_ok=True)
    few = [variant for variant in VARIANTS if variant in DRAWN] or VARIANTS
    security_curve({variant.name: drawn[variant] for variant in few}, folder / "worst_case.png", xlabel="l2", rejection=False)
