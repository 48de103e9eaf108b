"""Reverse cross-entropy and the thresholding test strategy, beside cross-entropy on the same network.

How both train, what storing fewer points does, oblivious attacks (accuracy, distortion, AUROC of three detectors), the white-box
C&W-wb from two starts, transfer to another network, t-SNE, the adaptive attack on the K-density detector, and its control: what it
says under benign perturbations. Networks are trained when they are not in the cache, both losses by the same settings, and some
with label smoothing. What the paper has is measured on networks of several seeds, the rest on the first of them.
"""

from typing import Annotated

import typer

import tfdefense as td
from evaluation.papers.rce import measure, reproduce
from evaluation.papers.rce.measure import LOSSES, SUITE
from evaluation.papers.rce.reproduce import ATTACKS, JSMAS, RANDOM, TARGETED, curve_of, each, identify, networks_of

DATASETS = ("mnist", "cifar10", "digits")
ADAPTIVE = {
    "mnist": {"l2": (0.5, 1.0, 1.5, 2.0), "linf": (0.05, 0.1, 0.2)},
    "cifar10": {"l2": (0.1, 0.25, 0.5), "linf": (0.005, 0.01, 0.02)},
    "digits": {"l2": (0.5, 1.0), "linf": (0.1, 0.2)},
}
CALIBRATED = {"row": "R3", "detector": "K-density", "threshold": "5 % FPR"}
# RCE's gradients are nine times smaller: its last rate gives the same steps as the last of CE.
RATES = {"ce": (0.01, 0.1, 0.9), "rce": (0.01, 0.1, 0.9, 2.7, 8.1)}
# Whether the training is why a number falls short; of a smaller network, which learns as well in a third of the time.
TRIES = {
    "mnist": (
        ("ce", "ResNet-8, the recipe", {"depth": 8}),
        ("rce", "ResNet-8, the recipe", {"depth": 8}),
        ("rce", "ResNet-8, twice the epochs", {"depth": 8, "epochs": 12}),
        ("rce", "ResNet-8, 2.5 times the learning rate", {"depth": 8, "learning_rate": 0.005}),
    )
}
TRAININGS = tuple(name for loss, name, _ in TRIES["mnist"] if loss == "rce")
Depth = Annotated[int | None, typer.Option(help="Depth of the networks, 6n + 2; else the recipe's.")]
Epochs = Annotated[int | None, typer.Option(help="Epochs of training; else the recipe's.")]
Few = Annotated[int | None, typer.Option(help="Samples for C&W, and for JSMA's curve on CIFAR-10.", min=2)]
Fewer = Annotated[int | None, typer.Option(help="Samples for C&W-wb and its transfer; else those for C&W.", min=2)]
Seeds = Annotated[
    int | None, typer.Option(help="Networks of each loss, of seeds 0, 1, ...; else 5 on MNIST and 1 elsewhere.", min=1)
]


def setup(context, depth, epochs, cw_samples, wb_samples=None, seeds=None):
    """How many samples and networks a run uses, and how these are trained."""
    depth = depth or (8 if context.quick or context.dataset == "digits" else 14)
    epochs = epochs or (1 if context.quick and context.dataset != "digits" else None)
    number, search = context.samples_or(500, 60), measure.search(context.quick)
    number = min(number, len(td.data.load(context.dataset, "test", data_dir=context.data_dir)) // 2)
    few = min(number, cw_samples or (30 if context.quick else 100))
    context.settings.update({"depth": depth, "epochs": epochs or "the recipe's", "samples": number, "C&W samples": few})
    context.settings["C&W-wb samples"] = min(number, wb_samples or few)
    context.settings["seeds"] = seeds or (5 if context.dataset == "mnist" and not context.quick else 1)
    context.settings["C&W"] = f"{search.binary_search_steps} rounds of {search.steps} steps"
    return {"depth": depth, "epochs": epochs}


def run(
    context,
    *,
    depth: Depth = None,
    target_depth: Annotated[int | None, typer.Option(help="Depth of the target of the transfer; else 6 more.")] = None,
    epochs: Epochs = None,
    target_epochs: Annotated[int | None, typer.Option(help="Epochs of the target of the transfer; else as many.")] = None,
    cw_samples: Few = None,
    wb_samples: Fewer = None,
    seeds: Seeds = None,
):
    training = setup(context, depth, epochs, cw_samples, wb_samples, seeds)
    target = {"depth": target_depth or training["depth"] + 6, "epochs": target_epochs or training["epochs"]}
    context.settings.update({"target depth": target["depth"], "target epochs": target["epochs"] or "the recipe's"})
    seeds = range(context.settings["seeds"])
    networks = networks_of(context, training, seeds, network="substitute")
    targets = networks_of(context, target, seeds, network="target")
    smoothed = networks_of(context, training, seeds, ("ls",), network="substitute")
    tried = () if context.quick and context.dataset != "digits" else TRIES.get(context.dataset, ())
    tried = [network for loss, name, options in tried for network in networks_of(context, options, losses=(loss,), network=name)]
    paper(context, networks, targets, smoothed, tried)
    first = [network for network in networks if network.seed == 0]
    _by_sgd(context)
    _points(context, first)
    reproduce.oblivious(context, tried, [name for name in ATTACKS if name not in (*JSMAS, *TARGETED)], ["K-density"])
    ours(context, first)


def paper(context, networks, targets, smoothed, others=()):
    """What the paper has: tables 1 to 4, figures 1 to 3, noise against attacks; label smoothing beside it."""
    context.settings["eta of C&W-wb"] = f"the median of {measure.MEDIAN_OF} training samples"
    identify(context, [*networks, *targets, *smoothed, *others])
    plots, first = folder(context), [network for network in networks if network.seed == 0]
    reproduce.errors(context, [*networks, *targets, *smoothed, *others])
    reproduce.accuracies(context, networks, plots)
    reproduce.oblivious(context, [*networks, *smoothed])
    crafted = reproduce.white_box_rows(context, networks, ("", RANDOM))
    reproduce.examples(first, crafted, plots)
    reproduce.plane(context, first, plots)
    reproduce.transfer(context, targets, crafted)


def ours(context, networks):
    """K-density under benign perturbations and under attacks that know it."""
    benign_rows(context, networks, ("false-positive rate", "error rate"))
    for norm, sizes in ADAPTIVE[context.dataset].items():
        curves = adaptive_rows(context, networks, norm, sizes, ("sample", "all"))
        td.plots.security_curve(curves, folder(context) / f"adaptive-{norm}.png", xlabel=norm, rejection=False)
    # In the end: results of parts are found by the settings.
    took = {network.system: measure.recorded(network)["seconds"] for network in networks}
    context.settings["trained in"] = ", ".join(f"{system} {seconds:.0f} s" for system, seconds in took.items() if seconds)


def folder(context):
    """Where pictures go."""
    plots = context.output / f"{context.protocol}-{context.dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    return plots


def _by_sgd(context):
    """What plain SGD makes of the gradients of RCE, which are classes - 1 times smaller."""
    budget = {"depth": 8, "epochs": 1 if context.quick else 3, "train_samples": 1000 if context.quick else 10_000}
    note = f"ResNet-8, {budget['epochs']} epochs of {budget['train_samples']} samples; the others are trained by AdamW"
    by_sgd = []
    for loss in LOSSES:
        for rate in RATES[loss]:
            options = {"optimizer": "SGD", "learning_rate": rate} | budget
            by_sgd += networks_of(context, options, losses=(loss,), learning_rate=rate)
    for _, network, one in each(context, by_sgd, {"SGD": (measure.recorded,)}):
        context.row("pang2018.ours.sgd", "error rate", one["error"], row="R1", note=note, **network.about)


def _points(context, networks):
    """What storing fewer points does to K-density."""
    points = min(10_000, len(networks[0].data.train) // 2)
    for _, network, one in each(context, networks, {points: (measure.capping, points)}):
        note = f"with all points {one['exact']:.4f}; median change of the log density {one['change']:.3g}"
        about = {"row": "R2", "detector": "K-density", "points": points, "n": one["n"], "note": note}
        context.row(
            "pang2018.ours.points", "AUROC", one["capped"], **network.about, **reproduce.oblivious_fields(context, "BIM"), **about
        )


def benign_rows(context, networks, metrics):
    """The control: what K-density makes of samples that nobody attacked."""
    for _, network, found in each(context, networks, {"K-density": (measure.benign,)}):
        about = network.about | CALIBRATED | {"n": context.settings["samples"]}
        for kind, size, *shares in found:
            for metric, share in zip(metrics, shares, strict=False):
                context.row("pang2018.ours.benign", metric, share, perturbation=kind, epsilon=size, **about)


def adaptive_rows(context, networks, norm, sizes, starts):
    """Attacks that know K-density: from the sample alone, or from all starts. Gives their curves by name."""
    steps, curves = 40 if context.quick else 100, {}
    parts = {f"{norm} {start}": (measure.adaptive, norm, sizes, start, steps) for start in starts}
    for name, network, found in each(context, networks, parts):
        start = name.split()[1]
        attack = {"attack": "worst case", "suite": SUITE} if start == "all" else {"attack": "PGD"}
        about = attack | {"starts": start, "knowledge": "adaptive"}
        about |= network.about | CALIBRATED | {"norm": norm, "n": context.settings["samples"]}
        for size, accuracy, rejection in zip(sizes, found["accuracy"], found["rejection"], strict=True):
            context.row("pang2018.ours.adaptive", "robust accuracy", accuracy, epsilon=size, **about)
            context.row("pang2018.ours.adaptive", "rejection rate", rejection, epsilon=size, **about)
        curves[f"{network.system}, {start}"] = curve_of(sizes, **found)
    return curves
