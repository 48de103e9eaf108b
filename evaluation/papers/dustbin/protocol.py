"""Out-distribution learning: a dustbin class beside none, with foreign images and with samples between the classes.

Rows O1 to O9: adversarial samples crafted on another network, held-back foreign images, letters of another source, the same
networks under attacks that know them, what they reject of harmless changes, and what each of several changes makes of that.
Nothing is chosen by test samples: the length of DeepFool's perturbations and the best change are judged on training samples
that no network here has seen.
"""

from typing import Annotated

import typer

from evaluation.papers.dustbin import tables as rows
from evaluation.papers.dustbin.measure import carlini_length, craft, factor_that_transfers, right, steps_of
from evaluation.papers.dustbin.settings import NAIVE_CHANGED, PLANS, networks, recipes_of

DATASETS = ("mnist", "cifar10", "digits")
HEADINGS = {
    "rejection": "rejected",
    "clean": "clean accuracy",
    "foreign": "foreign rejected",
    "black_box": "black-box error, the worse form of DeepFool",
    "unseen": "on unseen training samples",
    "unseen_black_box": "black-box error there",
    "unseen_clean": "clean accuracy there",
}
CLASSES = 10  # of every data set here


class Samples:
    """Test samples, training samples that no network has seen, and held-back foreign images."""

    def __init__(self, context, plan):
        from tfdefense import data

        options = {"data_dir": context.data_dir}
        train, self.test = (data.load(context.dataset, part, **options) for part in ("train", "test"))
        # Two parts: one sets a threshold, the other judges.
        unseen = train.take(slice(plan.seen, None))
        self.held_out, self.calibration = unseen.take(slice(0, None, 2)), unseen.take(slice(1, None, 2))
        self.foreign = data.load(plan.foreign, "test", **options)


def load(path):
    """A network as a model that may reject, where it has a dustbin."""
    import keras

    import tfdefense as td

    model = keras.models.load_model(path, compile=False)
    return td.DustbinDefense().attach(model) if model.output_shape[-1] > CLASSES else model


def run(
    context,
    *,
    white_samples: Annotated[int | None, typer.Option(help="Samples for attacks that know the network.", min=2)] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W.", min=2)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipes'.", min=1)] = None,
    changes: Annotated[bool, typer.Option(help="Whether to train and compare the changes.")] = True,
    figures: Annotated[bool, typer.Option(help="Whether to draw.")] = True,
):
    plan, quick = PLANS[context.dataset], context.quick
    number = context.samples_or(1000, 60)
    few, white = min(number, cw_samples or (10 if quick else 100)), min(number, white_samples or (30 if quick else 500))
    settings = {kind: known | ({"epochs": epochs} if epochs else {}) for kind, known in networks(plan, quick).items()}
    context.headings.update(HEADINGS)
    context.settings.update(
        {"recipes": ", ".join(plan.recipes.values()), "training": settings["both"] or "the recipes'", "samples": number}
        | {"C&W samples": few, "white-box samples": white}
        | {"target of T-FGS": "least likely; the paper names none", "attacks crafted on": "the naive recipe, seed 1"}
        | {"tested": f"the first {number} test samples that this network has right; the paper: all"}
        | {
            "C&W": f"rounds of {carlini_length(quick)['steps']} steps, values clipped; the paper has its authors' code",
            "DeepFool": "5 likeliest classes",
        }
        | {"I-FGS": f"{steps_of(plan)} steps; the paper tells none", "white box": "the first test samples, right or not"}
        | plan.differs
    )
    samples = Samples(context, plan)
    wanted = recipes_of(plan, quick, settings, (plan.changes[:2] if quick else plan.changes) if changes else ())
    # All in one go: of two processes each begins at its own end, and none waits for what the other trains.
    paths = {kind: context.network(recipe, shared=True, **known) for kind, (recipe, known) in context.turn(wanted.items())}
    models, source = {kind: load(paths[kind]) for kind in plan.recipes}, load(paths["source"])
    test = right(source, samples.test, number)
    unseen = right(source, samples.held_out, max(10, number // 2))
    parts = {"test samples": (*test, few), "unseen training samples": (*unseen, few // 2)}
    sets, tried = craft(context, plan, source, parts).values()
    transfers = context.part("factor of DeepFool", factor_that_transfers, models["naive"], tried["DeepFool"])
    rows.lengthen(sets, transfers["factor"])
    rows.lengthen(tried, transfers["factor"])
    rows.shares(context, {kind: paths[kind] for kind in (*plan.recipes, *plan.changes) if kind in paths})
    rows.clean(context, models, samples)
    rows.table(context, models, source, sets, transfers, 2 * few)
    if plan.other:
        rows.transfer(context, plan, load(paths["other"]), samples)
    rows.controls(context, models, samples, plan, number)
    if changes:
        trained = {kind: load(paths[kind]) for kind in wanted if kind in plan.changes}

        def again(kind):
            recipe, known = wanted[kind]
            return load(context.network(recipe, **known | {"seed": 1}))

        best, model = rows.improvements(context, plan, trained, models, samples, sets, tried, number, again)
        models |= {best: model}
        rows.undefended(context, load(paths[NAIVE_CHANGED]), samples, sets)
    rows.white_boxes(context, models, plan, samples, white, few)
    if figures:
        from evaluation.papers.dustbin.figures import draw

        draw(context, plan, models, samples, sets)
