"""Figure 5 as the paper does it: at 1/255 alone, against an adversary of ten steps, with a branch of 96 maps.

Rows M7 and M8 with nothing made easier: training begins at the size that it ends at, the adversary has all of its steps, Adam is
the paper's, and all samples are seen as often as there: 20 epochs of 45,000 on the fly, and as many of their pairs for the static
branch. What the classifier is, and which epoch's weights are kept, stays as in `detector`. It is stopped and started again at will:
a branch goes on with the epoch that it was in, as long as the code is the same. Most of a day on two CPU cores.
"""

from typing import Annotated

import typer

from evaluation.papers.detector import dynamic
from evaluation.papers.detector.fit import prepared
from evaluation.papers.detector.settings import BRANCH, DIFFERS, HALF, PLANS
from evaluation.papers.intervals import wilson
from evaluation.runner.benign import size_text
from evaluation.runner.networks import named

DATASETS = ("cifar10", "digits")
SAMPLES, EPOCHS, WIDTH = 45_000, 20, 96
BATCHES = EPOCHS * -(-SAMPLES // 128)


def rejected(setting, name):
    """The share of clean samples that a detector takes for attacked."""
    from tfdefense.view import decide

    return float((decide(dynamic.dynamic_detector(setting, name, 0.0), setting.attacked.x).suspicion > 0).mean())


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual classifier; else 14.")] = None,
    width: Annotated[int | None, typer.Option(help="Maps of the branch's first convolution; else 96, the paper's.", min=1)] = None,
    batches: Annotated[int | None, typer.Option(help="Batches of 128 of the dynamic branch; else 20 epochs.", min=1)] = None,
    learning_rate: Annotated[float, typer.Option(help="Of Adam, the same throughout; the paper's is 1e-4.")] = 1e-4,
):
    quick, dataset = context.quick, context.dataset
    plan, small = PLANS[dataset], quick and dataset != "digits"
    depth = (depth or (8 if quick else plan.depth)) if plan.depth else None
    many = 1000 if quick else SAMPLES
    budget = {
        "depth": depth,
        "width": width or (8 if quick else WIDTH),
        "epochs": 1,
        "batches": batches or (20 if quick else BATCHES),
        "learning_rate": learning_rate,
        "fitted": many,
        "as_in_the_paper": True,
        "plan": {"annealed": (), "fighting": 10, "fought": many},
    }
    network = context.network(plan.recipe, depth=depth, epochs=1 if small else None)
    setting = prepared(context, network, budget)
    differs = {name: text for name, text in DIFFERS.items() if name in ("fitted on", "kept")}
    context.settings.update(
        {name: value for name, value in budget.items() if name not in ("plan", "epochs", "as_in_the_paper")}
        | {"samples": len(setting.attacked), "seed": 0, "network": named(network), "convolutions": setting.depth()}
        | {"adversary": f"{size_text(plan.dynamic)}, 10 steps", "optimizer": "Adam, beta 0.99 and 0.999, at one rate"}
        | differs
        | ({"classifier": f"{depth} layers; the paper: 32"} if depth not in (None, 32) else {})
    )
    plots = context.output / f"detector_figure5-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    sigmas = dynamic.tenths(dynamic.sigmas_of(context))
    measured = _measured(context, setting, sigmas)
    dynamic.sigma_rows(context, setting, measured, sigmas, plots)
    dynamic.training_rows(context, setting, measured)
    for name, found in measured.items():
        about = {"row": "M7", "system": BRANCH, "detector": name, "threshold": HALF, "n": len(setting.attacked.x)}
        rate = found["rejected"]
        context.row("metzen2017.ours.benign", "false-positive rate", rate, **about, interval=wilson(rate, about["n"]))


def _measured(context, setting, sigmas):
    # Fitting first: it can be stopped, and takes nearly all of the time.
    names = dynamic.PLAIN[::-1]
    found = context.parts({f"{name}, fitting": (dynamic.took_to_fit, setting, name) for name in names})
    parts = {f"{name}, sigma {sigma:g}": (dynamic.under_sigma, setting, name, sigma) for name in names for sigma in sigmas}
    found |= context.parts(parts | {f"{name}, rejected": (rejected, setting, name) for name in names})
    jobs = ("fitting", "rejected", *(f"sigma {sigma:g}" for sigma in sigmas))
    return {name: {job: found[f"{name}, {job}"] for job in jobs} for name in dynamic.PLAIN}
