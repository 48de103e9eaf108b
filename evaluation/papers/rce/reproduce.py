"""The rows of the paper's own tables and figures: each over the networks of all seeds, with an interval over the samples."""

import numpy as np

import tfdefense as td
from evaluation.papers.rce import measure, spread
from evaluation.papers.rce.measure import CARLINI, EPSILON, JSMAS, LOSSES, RANDOM, SIGMA, SYSTEMS, Network

SIZES = {"mnist": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3), "cifar10": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05), "digits": (0.0, 0.1, 0.2)}
# JSMA's size is what a chosen pixel gains in a step.
THETAS = {"mnist": (0.0, 0.25, 0.5, 1.0), "cifar10": (0.0, 0.1, 0.25, 0.5, 1.0), "digits": (0.0, 0.5, 1.0)}
SIMPLE = ("FGSM", "BIM", "ILCM")
TARGETED = tuple(f"{name}, {RANDOM}" for name in CARLINI)
ATTACKS = (*SIMPLE, *JSMAS, *CARLINI, *TARGETED)
DETECTORS = ("confidence", "non-ME", "K-density")
# Where C&W-wb begins, as the library calls it.
STARTS, BETTER = {"sample": "sample", "C&W example": "base"}, "better of both"
WHITE_BOX = {"row": "R6", "attack": "C&W-wb", "norm": "l2", "knowledge": "adaptive"}
ETA = {"detector": "K-density", "threshold": "median of the training samples"}
UNIT, NONE = "root mean square, of 255", "no sample on which the attack succeeds"


def networks_of(context, training, seeds=(0,), losses=LOSSES, schedule="", **about):
    """For each loss and seed a network; those of a loss differ in nothing but the seed."""
    found = []
    for loss in losses:
        for seed in seeds:
            # The recipe's own is 0.
            options = training | {"seed": seed or None}
            options = tuple((option, value) for option, value in options.items() if value is not None)
            found.append(Network(context, {"system": SYSTEMS[loss], **about}, loss, options, SIGMA[loss], schedule))
    return found


def each(context, networks, parts):
    """Name, network and result of each part on each network; `parts` are functions with their further arguments, by name."""
    made = [(name, network, f"{parts[name][0].__name__} {name}, {network}") for network in networks for name in parts]
    found = context.parts({full: (parts[name][0], network, *parts[name][1:]) for name, network, full in made})
    return [(name, network, found[full]) for name, network, full in made]


def together(context, networks, parts):
    """Name, the networks that differ in their seed alone, and their results."""
    groups = {}
    for name, network, one in each(context, networks, parts):
        groups.setdefault((name, *network.about.items()), []).append((network, one))
    return [(name, *map(list, zip(*members, strict=True))) for (name, *_), members in groups.items()]


def identify(context, networks):
    """Trains what is not there, and puts the fingerprints of all weights among the settings, on which every part depends."""
    each(context, networks, {"": (measure.trained,)})
    context.settings["weights"] = {network.trained_as: measure.fingerprint(network) for network in networks}


def put(context, table, metric, worth, note="", **about):
    """A row of a number and what it is worth."""
    context.row(table, metric, note=note if worth["value"] is not None else f"{note + '; ' if note else ''}{NONE}", **worth | about)


def auroc(context, table, networks, found, detector, samples, against="clean", note="", **about):
    """A row of AUROCs over the networks, and of several networks one for each in the table of seeds."""
    pairs = [(one["rows"], one[against][detector], one["attacked"][detector]) for one in found]
    about |= {"detector": detector}
    put(context, table, "AUROC", spread.over(pairs, samples, spread.auc), note=note, **about)
    if against == "clean" and len(networks) > 1:
        for network, own in zip(networks, pairs, strict=True):
            worth = spread.over([own], samples, spread.auc)
            put(context, "pang2018.ours.seeds", "AUROC", worth, seed=network.seed, of=table.split(".")[1], **about)


def errors(context, networks):
    """Table 1."""
    for _, same, found in together(context, networks, {"all": (measure.errors,)}):
        count = len(found[0])
        worth = spread.over([(range(count), one) for one in found], count, spread.mean)
        # Of all networks together: the test samples are the same.
        put(context, "pang2018.table1", "error rate", worth | {"n": count}, row="R8", **same[0].about)


def oblivious_fields(context, attack):
    """Fields of an attack on the classifier alone."""
    attack, _, target = attack.partition(", ")
    ball = {"norm": "linf", "epsilon": EPSILON[context.dataset]} if attack in SIMPLE else {}
    return {"attack": attack, "knowledge": "oblivious", "target": target} | ({"norm": "l2"} if attack in CARLINI else ball)


def accuracies(context, networks, plots):
    """Figure 2a: accuracy under attacks on the classifier alone, the detectors off."""
    for attack in (*SIMPLE, *JSMAS):
        sizes, size_of = (SIZES, "epsilon") if attack not in JSMAS else (THETAS, "theta")
        sizes, curves = sizes[context.dataset], {}
        # Pairs of pixels of pictures in colour take seconds a sample.
        few = attack == "JSMA" and context.dataset == "cifar10"
        count = context.settings["C&W samples" if few else "samples"]
        parts = {attack: (measure.accuracy_curve, attack, sizes, count)}
        for _, same, found in together(context, networks, parts):
            about = same[0].about | oblivious_fields(context, attack) | {"row": "R4"}
            curve = []
            for size, *right in zip(sizes, *found, strict=True):
                worth = spread.over([(range(count), one) for one in right], count, spread.mean) | {"n": count}
                put(context, "pang2018.fig2a", "accuracy", worth, **about | {size_of: size})
                curve.append(worth["value"])
            curves[same[0].system] = curve_of(sizes, curve, [0.0] * len(sizes))
        file = plots / f"{attack.lower().replace(', ', '-').replace(' ', '-')}.png"
        td.plots.security_curve(curves, file, xlabel=size_of, rejection=False)


def curve_of(sizes, accuracy, rejection):
    return td.metrics.SecurityCurve(sizes, [accuracy], [rejection], [[1 - share for share in accuracy]])


def oblivious(context, networks, attacks=ATTACKS, detectors=DETECTORS):
    """Table 2, figure 2b, and attacked samples against noisy ones."""
    for attack, same, found in together(context, networks, {attack: (measure.oblivious, attack) for attack in attacks}):
        about, samples = same[0].about | oblivious_fields(context, attack), context.settings["samples"]
        note = "; ".join(one["note"] for one in found)
        for name in detectors:
            auroc(context, "pang2018.table2", same, found, name, samples, row="R5", note=note, **about)
            noise = {"perturbation": "uniform", "size of the noise": EPSILON[context.dataset]}
            if about["network"] == "substitute":
                auroc(context, "pang2018.b3", same, found, name, samples, "noisy", row="R5", **noise | about)
        if attack.partition(", ")[0] in CARLINI and about["network"] == "substitute":
            lost = [(one["lost"], one["rms"]) for one in found]
            worth = spread.over(lost, samples, spread.mean)
            put(context, "pang2018.fig2b", "mean distance", worth, row="R4", **about, unit=UNIT)


def white_box_rows(context, networks, targets=("",)):
    """Table 3: C&W-wb from each start, and the better of both for each sample, which it returns by target, loss and seed."""
    count = context.settings["C&W-wb samples"]
    for _, same, found in together(context, networks, {"clean": (measure.above_eta,)}):
        worth = spread.over([(one["rows"], one["above"]) for one in found], count, spread.mean)
        put(context, "pang2018.table3", "false-positive rate", worth, row="R6", **same[0].about, **ETA)
    more, crafted = (measure.search(context.quick), count), {}
    for target in targets:
        names = {start: f"{start}, {target}" if target else start for start in STARTS}
        parts = {names[start]: (measure.white_box, name, *more, target) for start, name in STARTS.items()}
        found = {(name, network.loss, network.seed): one for name, network, one in each(context, networks, parts)}
        keys = [(network.loss, network.seed) for network in networks]
        best = {key: measure.better(*(found[names[start], *key] for start in STARTS)) for key in keys}
        for start in (*STARTS, BETTER):
            of = best if start == BETTER else {key: found[names[start], *key] for key in keys}
            about = {"starts": start, "target": target}
            for loss in LOSSES:
                same = [network for network in networks if network.loss == loss]
                searched = [of[loss, network.seed] for network in same]
                failing_row(context, same, searched, **about)
                lost = [(np.flatnonzero(one["success"]), np.array(one["rms"])[one["success"]]) for one in searched]
                worth = spread.over(lost, count, spread.mean)
                put(context, "pang2018.table3", "mean distance", worth, unit=UNIT, **WHITE_BOX | same[0].about | about)
            seeds = sorted({network.seed for network in networks})
            pairs = [[of[loss, seed] for loss in LOSSES] for seed in seeds]
            ratio_row(context, pairs, over="CE", **same[0].about | about)
        crafted |= {(target, *key): one for key, one in best.items()}
    return crafted


def failing_row(context, networks, found, **about):
    """The share of samples on which `white_box` did not succeed, of those that were right."""
    shares = [(np.flatnonzero(one["right"]), ~np.array(one["success"])[one["right"]]) for one in found]
    worth = spread.over(shares, len(found[0]["right"]), spread.mean)
    put(context, "pang2018.table3", "robust accuracy", worth, **WHITE_BOX | networks[0].about | ETA | about)


def ratio_row(context, pairs, **about):
    """The distortion of the second of each pair of results over that of the first, over the samples that both lose."""
    both = []
    for one, other in pairs:
        rows = np.flatnonzero(np.array(one["success"]) & np.array(other["success"]))
        both.append((rows, np.array(other["rms"])[rows], np.array(one["rms"])[rows]))
    worth = spread.over(both, len(pairs[0][0]["right"]), spread.ratio)
    put(context, "pang2018.table3", "distance ratio", worth, **WHITE_BOX | about)


def transfer(context, targets, crafted):
    """Table 4: what C&W-wb found on the networks of a seed, on the targets of that seed."""
    count = context.settings["C&W-wb samples"]
    for target in dict.fromkeys(key[0] for key in crafted):
        for source in LOSSES:
            # One after the other: a part is a function of the examples from its own seed's substitute.
            found = {}
            for seed in sorted({network.seed for network in targets}):
                of_seed = [network for network in targets if network.seed == seed]
                name = f"{SYSTEMS[source]}, {target}" if target else SYSTEMS[source]
                parts = {name: (measure.transfer, crafted[target, source, seed]["x_adv"])}
                for _, network, one in each(context, of_seed, parts):
                    found.setdefault(network.loss, []).append((network, one))
            for members in found.values():
                same, scores = map(list, zip(*members, strict=True))
                tried = count * len(same)
                note = f"{sum(len(one['rows']) for one in scores)} of {tried} mislead the target"
                about = WHITE_BOX | same[0].about | {"row": "R7", "knowledge": "black box"}
                about |= {"substitute": SYSTEMS[source], "target": target, "note": note}
                auroc(context, "pang2018.table4", same, scores, "K-density", count, **about)


def plane(context, networks, plots):
    """Figure 1: t-SNE of the last hidden layer."""
    for _, network, one in each(context, networks, {1000: (measure.tsne, 1000)}):
        about = {"row": "R9", "classifier": "nearest neighbour in the t-SNE plane", "n": len(one["plane"])}
        context.row("pang2018.fig1", "accuracy", one["same_class"], **network.about, **about)
        td.plots.embedding(one["plane"], network.data.test.y[:1000], plots / f"tsne-{network.loss}.png")


def examples(networks, crafted, plots):
    """Figure 3: samples and what C&W-wb made of them, towards random classes."""
    for network in networks:
        (x, y), found = network.attacked(), crafted[RANDOM, network.loss, network.seed]
        one = {name: np.array(values) for name, values in found.items()}
        if len(shown := np.flatnonzero(one["success"])[:8]):
            x_adv = one["x_adv"][shown].astype("float32")
            td.plots.examples(x[shown], x_adv, y[shown], one["label"][shown], plots / f"white-box-{network.loss}.png")
