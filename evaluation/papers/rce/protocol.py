"""Reverse cross-entropy and the thresholding test strategy, beside cross-entropy on the same network.

How both train, what storing fewer points does, oblivious attacks (accuracy, distortion, AUROC of three detectors), the white-box
C&W-wb from two starts, transfer to another network, t-SNE, the adaptive attack on the K-density detector, and its control: what it
says under benign perturbations. Networks are trained when they are not in the cache, both losses by the same settings.
"""

from typing import Annotated

import numpy as np
import typer

import tfdefense as td
from evaluation.papers.rce import measure
from evaluation.papers.rce.measure import CARLINI, EPSILON, LOSSES, SIGMA, SUITE, Network

DATASETS = ("mnist", "cifar10", "digits")
SIZES = {"mnist": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), "cifar10": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05), "digits": (0.0, 0.1, 0.2)}
# JSMA's size is what a chosen pixel gains in a step.
THETAS = {"mnist": (0.0, 0.25, 0.5, 1.0), "cifar10": (0.0, 0.1, 0.25, 0.5, 1.0), "digits": (0.0, 0.5, 1.0)}
ADAPTIVE = {
    "mnist": {"l2": (0.5, 1.0, 1.5, 2.0), "linf": (0.05, 0.1, 0.2)},
    "cifar10": {"l2": (0.1, 0.25, 0.5), "linf": (0.005, 0.01, 0.02)},
    "digits": {"l2": (0.5, 1.0), "linf": (0.1, 0.2)},
}
ATTACKS = ("FGSM", "BIM", "ILCM", "JSMA", *CARLINI)
DETECTORS = ("confidence", "non-ME", "K-density")
# Where C&W-wb begins, as the library calls it.
STARTS, BETTER = {"sample": "sample", "C&W example": "base"}, "better of both"
WHITE_BOX = {"row": "R6", "attack": "C&W-wb", "norm": "l2", "knowledge": "adaptive"}
ETA = {"detector": "K-density", "threshold": "median of the training samples"}
CALIBRATED = {"row": "R3", "detector": "K-density", "threshold": "5 % FPR"}
UNIT, NONE = "root mean square, of 255", "no sample on which the attack succeeds"
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


def setup(context, depth, epochs, cw_samples):
    """How many samples a run uses, and how its networks are trained."""
    depth = depth or (8 if context.quick or context.dataset == "digits" else 14)
    epochs = epochs or (1 if context.quick and context.dataset != "digits" else None)
    number, search = context.samples_or(500, 60), measure.search(context.quick)
    number = min(number, len(td.data.load(context.dataset, "test", data_dir=context.data_dir)) // 2)
    few = min(number, cw_samples or (30 if context.quick else 100))
    context.settings.update({"depth": depth, "epochs": epochs or "the recipe's", "samples": number, "C&W samples": few})
    context.settings["C&W"] = f"{search.binary_search_steps} rounds of {search.steps} steps"
    return {"depth": depth, "epochs": epochs}


def pair(context, training, **about):
    options = tuple((option, value) for option, value in training.items() if value is not None)
    return [Network(context, {"system": loss.upper(), **about}, loss, options, SIGMA[loss]) for loss in LOSSES]


def each(context, networks, parts):
    """Name, network and result of each part on each network; `parts` are functions with their further arguments, by name."""
    made = [(name, network, f"{parts[name][0].__name__} {name}, {network}") for network in networks for name in parts]
    found = context.parts({full: (parts[name][0], network, *parts[name][1:]) for name, network, full in made})
    return [(name, network, found[full]) for name, network, full in made]


def run(
    context,
    *,
    depth: Depth = None,
    target_depth: Annotated[int | None, typer.Option(help="Depth of the target of the transfer; else 6 more.")] = None,
    epochs: Epochs = None,
    target_epochs: Annotated[int | None, typer.Option(help="Epochs of the target of the transfer; else as many.")] = None,
    cw_samples: Few = None,
):
    training = setup(context, depth, epochs, cw_samples)
    target = {"depth": target_depth or training["depth"] + 6, "epochs": target_epochs or training["epochs"]}
    context.settings.update({"target depth": target["depth"], "target epochs": target["epochs"] or "the recipe's"})
    context.settings["eta of C&W-wb"] = f"the median of {measure.MEDIAN_OF} training samples"
    networks = pair(context, training, network="substitute")
    targets = pair(context, target, network="target")
    tried = () if context.quick and context.dataset != "digits" else TRIES.get(context.dataset, ())
    tried = [pair(context, options, network=name)[LOSSES.index(loss)] for loss, name, options in tried]
    plots = context.output / f"rce-{context.dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    _errors(context, [*networks, *targets, *tried])
    _points(context, networks)
    _accuracy(context, networks, plots)
    _oblivious(context, networks, ATTACKS, DETECTORS)
    _oblivious(context, tried, [name for name in ATTACKS if name != "JSMA"], ["K-density"])
    crafted = white_box_rows(context, networks)
    for network in networks:
        (x, y), one = network.attacked(), {name: np.array(values) for name, values in crafted[network.loss].items()}
        if len(shown := np.flatnonzero(one["success"])[:8]):
            x_adv = one["x_adv"][shown].astype("float32")
            td.plots.examples(x[shown], x_adv, y[shown], one["label"][shown], plots / f"white-box-{network.loss}.png")
    benign_rows(context, networks, ("false-positive rate", "error rate"))
    for norm, sizes in ADAPTIVE[context.dataset].items():
        curves = adaptive_rows(context, networks, norm, sizes, ("sample", "all"))
        td.plots.security_curve(curves, plots / f"adaptive-{norm}.png", xlabel=norm, rejection=False)
    for _, network, one in each(context, networks, {1000: (measure.tsne, 1000)}):
        about = {"row": "R9", "classifier": "nearest neighbour in the t-SNE plane", "n": len(one["plane"])}
        context.row("pang2018.fig1", "accuracy", one["same_class"], **network.about, **about)
        td.plots.embedding(one["plane"], network.data.test.y[:1000], plots / f"tsne-{network.loss}.png")
    _transfer(context, targets, crafted)
    # In the end: results of parts are found by the settings.
    took = {network.system: measure.recorded(network)["seconds"] for network in networks}
    context.settings["trained in"] = ", ".join(f"{system} {seconds:.0f} s" for system, seconds in took.items() if seconds)


def _errors(context, networks):
    """Test errors; those after plain SGD show what it makes of the gradients of RCE, which are classes - 1 times smaller."""
    for _, network, error in each(context, networks, {"all": (measure.error,)}):
        about = {"row": "R8", "n": len(network.data.test)}
        context.row("pang2018.table1", "error rate", error, **network.about, **about)
    budget = {"depth": 8, "epochs": 1 if context.quick else 3, "train_samples": 1000 if context.quick else 10_000}
    note = f"ResNet-8, {budget['epochs']} epochs of {budget['train_samples']} samples; the others are trained by AdamW"
    options = [{"optimizer": "SGD", "learning_rate": rate} | budget for rate in RATES["rce"]]
    by_sgd = [network for option in options for network in pair(context, option, learning_rate=option["learning_rate"])]
    by_sgd = [network for network in by_sgd if network.about["learning_rate"] in RATES[network.loss]]
    for _, network, one in each(context, by_sgd, {"SGD": (measure.recorded,)}):
        context.row("pang2018.ours.sgd", "error rate", one["error"], row="R1", note=note, **network.about)


def _points(context, networks):
    """What storing fewer points does to K-density."""
    points = min(10_000, len(networks[0].data.train) // 2)
    for _, network, one in each(context, networks, {points: (measure.capping, points)}):
        note = f"with all points {one['exact']:.4f}; median change of the log density {one['change']:.3g}"
        about = {"row": "R2", "detector": "K-density", "points": points, "n": one["n"], "note": note}
        context.row("pang2018.ours.points", "AUROC", one["capped"], **network.about, **oblivious(context, "BIM"), **about)


def oblivious(context, attack):
    """Fields of an attack on the classifier alone."""
    ball = {"norm": "linf", "epsilon": EPSILON[context.dataset]} if attack in ATTACKS[:3] else {}
    return {"attack": attack, "knowledge": "oblivious"} | ({"norm": "l2"} if attack in CARLINI else ball)


def _accuracy(context, networks, plots):
    """Accuracy under attacks on the classifier alone, the detectors off."""
    for attack in ATTACKS[:4]:
        sizes, size_of = (SIZES, "epsilon") if attack != "JSMA" else (THETAS, "theta")
        sizes, curves = sizes[context.dataset], {}
        # Pairs of pixels of pictures in colour take seconds a sample.
        count = context.settings["C&W samples" if attack == "JSMA" and context.dataset == "cifar10" else "samples"]
        for _, network, accuracy in each(context, networks, {attack: (measure.accuracy_curve, attack, sizes, count)}):
            about = network.about | oblivious(context, attack) | {"row": "R4", "n": count}
            for size, share in zip(sizes, accuracy, strict=True):
                context.row("pang2018.fig2a", "accuracy", share, **about | {size_of: size})
            curves[network.system] = _curve(sizes, accuracy, [0.0] * len(sizes))
        td.plots.security_curve(curves, plots / f"{attack.lower()}.png", xlabel=size_of, rejection=False)


def _curve(sizes, accuracy, rejection):
    return td.metrics.SecurityCurve(sizes, [accuracy], [rejection], [[1 - share for share in accuracy]])


def _oblivious(context, networks, attacks, detectors):
    for attack, network, one in each(context, networks, {attack: (measure.oblivious, attack) for attack in attacks}):
        about = network.about | oblivious(context, attack) | {"note": one["note"]}
        for name in detectors:
            more = {"row": "R5", "detector": name, "n": one["pairs"]}
            context.row("pang2018.table2", "AUROC", one[name], **about, **more)
        if attack in CARLINI and network.about["network"] == "substitute":
            context.row("pang2018.fig2b", "mean distance", one["rms"], row="R4", n=one["lost"], **about, unit=UNIT)


def white_box_rows(context, networks):
    """C&W-wb from each start, and the better of both for each sample, which it returns by loss."""
    for _, network, (share, n) in each(context, networks, {"clean": (measure.above_eta,)}):
        context.row("pang2018.table3", "false-positive rate", share, row="R6", n=n, **network.about, **ETA)
    more = measure.search(context.quick), context.settings["C&W samples"]
    parts = {start: (measure.white_box, name, *more) for start, name in STARTS.items()}
    found = {(start, network.loss): one for start, network, one in each(context, networks, parts)}
    found |= {(BETTER, loss): measure.better(*(found[start, loss] for start in STARTS)) for loss in LOSSES}
    for start in (*STARTS, BETTER):
        for network in networks:
            one, about = found[start, network.loss], network.about | WHITE_BOX | {"starts": start}
            failing_row(context, one, **about)
            mean, n = measure.mean_distance(one)
            context.row("pang2018.table3", "mean distance", mean, n=n, unit=UNIT, note="" if n else NONE, **about)
        both = {network.system: found[start, network.loss] for network in networks}
        ratio_row(context, both, over="CE", starts=start, **networks[1].about)
    return {loss: found[BETTER, loss] for loss in LOSSES}


def failing_row(context, found, **about):
    share, n = measure.failing(found)
    context.row("pang2018.table3", "robust accuracy", share, n=n, **about, **ETA)


def ratio_row(context, found, **about):
    """The distortion of the second over that of the first, over the samples that both lose."""
    means, n = measure.both_lose(found.values())
    note = ", ".join(f"{name} {mean:.2f}" for name, mean in zip(found, means, strict=True)) if n else NONE
    context.row("pang2018.table3", "distance ratio", means[1] / means[0] if n else None, n=n, note=note, **WHITE_BOX | about)


def _transfer(context, targets, crafted):
    parts = {loss.upper(): (measure.transfer, one["x_adv"]) for loss, one in crafted.items()}
    for source, network, one in each(context, targets, parts):
        about = WHITE_BOX | network.about | {"row": "R7", "knowledge": "black box", "substitute": source, "detector": "K-density"}
        note = f"{one['pairs']} of {context.settings['C&W samples']} mislead the target"
        context.row("pang2018.table4", "AUROC", one["K-density"], n=one["pairs"], note=note, **about)


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
        curves[f"{network.system}, {start}"] = _curve(sizes, **found)
    return curves
