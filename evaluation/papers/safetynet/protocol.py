"""SafetyNet: detection of known and unknown attacks, attacks that know it, and whether its robustness is hidden gradients.

Rows S5 to S7: detectors on binary, quaternary and unquantised codes of one layer or of three, beside a detector branch and
a plain network, at a threshold of 0 as in the paper and at a false-positive rate of 5 %. Type I attacks know the classifier,
type II the detector too, in the open (smoothed as in the paper, and stronger) or as a black box (transferred, or asking for
outputs or labels alone). Control: benign perturbations. On MNIST also detectors on an adversarially trained network, that
network alone, and with a threshold on its confidence. There about half an hour with `--workers 2` on two free, fast CPU
cores; branches and adversarial samples are shared with the protocol `detector`.
"""

from typing import Annotated

import numpy as np
import typer

from evaluation.papers.detector.protocol import chosen_sizes, clean_accuracy
from evaluation.papers.safetynet import fit, measure
from evaluation.papers.safetynet.fit import PLAIN, TRAINED, fields
from evaluation.papers.safetynet.measure import THRESHOLDS
from evaluation.runner.benign import size_text
from evaluation.runner.networks import named

DATASETS = ("mnist", "cifar10", "digits")
FOUR = ("fast", "iterative linf", "iterative l2", "DeepFool l2")
DETECTORS = ("branch", *[name for name, net in fit.NETS.items() if not (net.rounds or net.benign)])
EVERY_PAIR = ("branch", "Det A")
# What the codes themselves do to benign perturbations.
BESIDE = ("Det A, activations as they are", "Det A, binary")
# In a quick run.
FEWER_DETECTORS = ("branch", *BESIDE, "Det A")
FEWER_GUARDS = (*PLAIN, fit.CONFIDENCE, "branch", "Det A", fit.EVERY_CHANGE, f"{fit.EVERY_CHANGE}{TRAINED}")
# Where ROC curves are written down; the pictures have all of them.
FALSE_POSITIVES = (0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1)
UNSEEN = "mean over unseen attacks"


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual classifier; else 14.")] = None,
    fitted: Annotated[int | None, typer.Option(help="Training samples of a branch.", min=128)] = None,
    pairs: Annotated[int | None, typer.Option(help="Clean / adversarial pairs for RBF-SVMs.", min=20)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a type II attack; 40, or 5 in a quick run.", min=2)] = None,
    strongest: Annotated[int | None, typer.Option(help="Samples for the strongest attacks; 150, or 10.", min=1)] = None,
    asked: Annotated[int | None, typer.Option(help="Samples for attacks that ask for outputs or labels; 100, or 5.", min=1)] = None,
    queries: Annotated[int | None, typer.Option(help="What such an attack may ask for each; 4000, or 300.", min=250)] = None,
):
    quick, dataset = context.quick, context.dataset
    plan, codes = fit.PLANS[dataset], fit.CODES[dataset]
    budget = {
        "depth": (depth or (8 if quick else plan.depth)) if plan.depth else None,
        "width": plan.width,
        "epochs": 2 if quick else plan.epochs,
        "batches": plan.batches,
        "learning_rate": 1e-3,
        "short": quick and dataset != "digits",
        "pairs": pairs or (200 if quick else codes.pairs),
        "steps": steps or (5 if quick else 40),
        "strongest": strongest or (10 if quick else 150),
        "asked": asked or (5 if quick else 100),
        "queries": queries or (300 if quick else 4000),
        "against": 30 if quick else 600,
        "fitted": fitted or (400 if quick else plan.fitted),
    }
    setting, plots = fit.prepared(context, budget), context.output / f"safetynet-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    context.settings |= budget | {"samples": len(setting.attacked.x), "size": size_text(codes.size)} | (codes.differs or {})
    context.settings |= {"network": named(setting.network), "RBF-SVMs": 'C 1, gamma "scale"'}
    context.settings["threshold under attacks of type II"] = "5 % of held-out clean samples rejected, and the paper's own, 0"
    # DeepFool-5 is there for sets with more than ten classes.
    kinds = [kind for kind in (*FOUR, fit.OUT_OF_FIVE) if any(one.kind == kind for one in setting.adversaries.values())]
    sizes = {f"accuracy {name}": name for name, one in setting.adversaries.items() if one.kind in kinds}
