"""Reverse cross-entropy and the thresholding test strategy, beside cross-entropy on the same network.

Rows R1 to R9: how both train, what storing fewer points does, attacks that know of no detector (accuracy, distortion, AUC of
three metrics), the white-box C&W-wb from two starts, transfer to another network, t-SNE, the adaptive attack on the K-density
detector, and its control: what it says of harmless changes. Networks are trained when they are not in the cache, both losses by
the same settings.
"""

from typing import Annotated

import typer

from evaluation.papers.rce import measure as measured
from evaluation.papers.rce import numbers as paper

DATASETS = ("mnist", "cifar10", "digits")
LOSSES = ("ce", "rce")
TITLES = {"ce": "CE", "rce": "RCE", "confidence": "confidence", "non-me": "non-ME", "density": "K-density"}
EPSILON = {"mnist": 0.2, "cifar10": 0.03, "digits": 0.2}
SIZES = {
    "mnist": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3),
    "cifar10": (0.0, 0.01, 0.02, 0.03, 0.04, 0.05),
    "digits": (0.0, 0.1, 0.2, 0.3),
}
# JSMA's size is what a chosen pixel gains in a step.
THETAS = {"mnist": (0.0, 0.25, 0.5, 1.0), "cifar10": (0.0, 0.1, 0.25, 0.5, 1.0), "digits": (0.0, 0.5, 1.0)}
ADAPTIVE = {
    "mnist": {"l2": (0.5, 1.0, 1.5, 2.0), "linf": (0.05, 0.1, 0.2)},
    "cifar10": {"l2": (0.1, 0.25, 0.5), "linf": (0.005, 0.01, 0.02)},
    "digits": {"l2": (0.5, 1.0), "linf": (0.1, 0.2)},
}
# RCE's gradients are nine times smaller: its last rate gives the same steps as the last of CE.
RATES = {"ce": (0.01, 0.1, 0.9), "rce": (0.01, 0.1, 0.9, 2.7, 8.1)}
# Whether the training is why a number falls short; of a smaller network, which learns as well in a third of the time.
TRIED_DEPTH = 8
TRIES = {
    "mnist": (
        ("ce", "the recipe", {}),
        ("rce", "the recipe", {}),
        ("rce", "twice the epochs", {"epochs": 12}),
        ("rce", "2.5 times the learning rate", {"learning_rate": 0.005}),
    )
}


def trained_pair(context, train, held_out, options):
    names = {loss: f"{context.dataset}_resnet_{loss}" for loss in LOSSES}
    paths = {loss: context.network(names[loss], shared=True, **options) for loss in context.turn(LOSSES)}
    return {loss: measured.Network(context, loss, path, train, held_out) for loss, path in paths.items()}


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of the networks, 6n + 2; else the recipe's.")] = None,
    target_depth: Annotated[int | None, typer.Option(help="Depth of the target of the transfer; else 6 more.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipe's.")] = None,
    target_epochs: Annotated[int | None, typer.Option(help="Epochs of the target of the transfer; else as many.")] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W, and for JSMA's curve on CIFAR-10.", min=2)] = None,
):
    from tfdefense import data

    quick, dataset = context.quick, context.dataset
    small = quick and dataset != "digits"
    depth = depth or (8 if quick or dataset == "digits" else 14)
    target_depth = target_depth or depth + 6
    epochs = epochs or (1 if small else None)
    target_epochs = target_epochs or epochs
    number = context.samples_or(500, 60)
    few = min(number, cw_samples or (30 if quick else 100))
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=5000 if small else None)
    test = data.load(dataset, "test", data_dir=context.data_dir)
    number = min(number, len(test.x) // 2)
    few = min(few, number)
    attacked, rest = test.divide(number)
    x, y, held_out = attacked.x, attacked.y, rest.take(slice(2000))
    lengths = {"epochs": epochs or "the recipe's", "target epochs": target_epochs or "the recipe's"}
    context.settings.update({"depth": depth, "target depth": target_depth, **lengths, "samples": number, "C&W samples": few})
    networks = trained_pair(context, train, held_out, {"depth": depth, "epochs": epochs})
    search = measured.search(quick)
    context.settings["C&W"] = f"{search.binary_search_steps} rounds of {search.steps} steps"
    # In one order: a process that begins with the other network would not find what this one has measured.
    took = {loss: networks[loss].config.get("seconds") for loss in LOSSES}
    context.settings["trained in"] = ", ".join(f"{TITLES[loss]} {took[loss]:.0f} s" for loss in LOSSES if took[loss])
    context.settings["eta of C&W-wb"] = f"the median of {measured.MEDIAN_OF} training samples"
    where = f"ResNet-{depth}; the paper's is ResNet-32"
    for loss, network in networks.items():
        error = context.part(f"error {loss}", _error, network, test)
        known = paper.of(paper.TEST_ERROR, dataset, loss)
        context.row("R8", f"test error, {TITLES[loss]}", error, paper=known, samples=len(test.x), note=where)
        points, epsilon = min(10_000, len(train.x) // 2), EPSILON[dataset]
        capped = context.part(f"capped {loss}", measured.capping, network, train, x, y, points, epsilon)
        note = f"with all {len(train.x):,} points {capped['exact']:.4f}; median change of the log density {capped['change']:.3g}"
        what = f"AUC under BIM at {epsilon:g}, K-density with {points:,} of the training samples, {TITLES[loss]}"
        context.row("R2", what, capped["capped"], samples=capped["samples"], note=note)
    _training_rows(context)
    plots = context.output / f"rce-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    _oblivious_rows(context, networks, x, y, few, where, plots)
    if not small:
        _tried_rows(context, train, held_out, x, y, few)
    crafted = _white_box_rows(context, networks, x[:few], y[:few], where, plots)
    _adaptive_rows(context, networks, x, y, plots)
    _tsne_rows(context, networks, test.x[:1000], test.y[:1000], plots)
    targets = trained_pair(context, train, held_out, {"depth": target_depth, "epochs": target_epochs})
    for loss, target in targets.items():
        error = context.part(f"error, target {loss}", _error, target, test)
        note = f"ResNet-{target_depth}; the paper's is ResNet-56"
        context.row("R8", f"test error, target of the transfer, {TITLES[loss]}", error, samples=len(test.x), note=note)
    _transfer_rows(context, targets, crafted, x[:few], y[:few], f"from ResNet-{depth} to ResNet-{target_depth}")


def _training_rows(context):
    """The gradients of reverse cross-entropy are classes - 1 times smaller: what plain SGD makes of that."""
    import json

    budget = {"depth": 8, "epochs": 1 if context.quick else 3, "train_samples": 1000 if context.quick else 10_000}
    note = f"ResNet-8, {budget['epochs']} epochs of {budget['train_samples']} samples; the networks above are trained by AdamW"
    for loss in context.turn(LOSSES):
        for rate in RATES[loss]:
            options = {"optimizer": "SGD", "learning_rate": rate} | budget
            path = context.network(f"{context.dataset}_resnet_{loss}", shared=True, **options)
            error = 1 - json.loads((path.parent / "config.json").read_text())["test_accuracy"]
            context.row("R1", f"test error, SGD with a learning rate of {rate}, {TITLES[loss]}", error, note=note)


def _error(network, test):
    import tfdefense as td

    return 1 - td.evaluate(network.base, test.x, test.y).accuracy


def _cw(context, **options):
    return measured.search(context.quick, **options)


def _attacks(context, network, x, y, few):
    """By name: an attack that knows the network alone, on how many samples, and what is to be said of it."""
    from tfdefense import attacks

    epsilon, own = EPSILON[context.dataset], measured.own_kappa(network.base, x, y)
    return {
        "FGSM": (attacks.FGSM(epsilon), len(x), f"epsilon {epsilon}"),
        "BIM": (attacks.BIM(epsilon), len(x), f"epsilon {epsilon}"),
        "ILCM": (attacks.ILCM(epsilon), len(x), f"epsilon {epsilon}"),
        "JSMA": (attacks.JSMA(), len(x), "towards the likeliest wrong class; pairs of pixels, saliency of the logits"),
        "C&W": (_cw(context), few, ""),
        "C&W-hc": (_cw(context, kappa=10.0), few, f"kappa 10, {10 / own:.2f} of the own one"),
        "C&W-hc own kappa": (_cw(context, kappa=own), few, f"kappa {own}, 1.3 x the median clean margin"),
    }


def _tried_rows(context, train, held_out, x, y, few):
    """K-density after other trainings."""
    for loss, training, options in context.turn(TRIES.get(context.dataset, ())):
        path = context.network(f"{context.dataset}_resnet_{loss}", shared=True, **{"depth": TRIED_DEPTH} | options)
        network, about = measured.Network(context, loss, path, train, held_out), f"{TITLES[loss]}, ResNet-{TRIED_DEPTH}, {training}"
        error = network.config["test_accuracy"]
        context.row("R8", f"test error, {about}", 1 - error, note="whether another training is why a number falls short")
        for name, (attack, count, note) in _attacks(context, network, x, y, few).items():
            if name != "JSMA":
                found = context.part(f"tried {name} {about}", measured.oblivious, network, attack, x[:count], y[:count])
                note = "; ".join(filter(None, [note, f"{found['success']:.3f} succeed"]))
                context.row("R5", f"AUC, {name}, {about}, K-density", found["density"], samples=found["pairs"], note=note)


def _oblivious_rows(context, networks, x, y, few, where, plots):
    from tfdefense import attacks
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    swept = {
        "FGSM": (attacks.FGSM, SIZES),
        "BIM": (attacks.BIM, SIZES),
        "ILCM": (attacks.ILCM, SIZES),
        "JSMA": (lambda size: attacks.JSMA(theta=size), THETAS),
    }
    for name, (make, sizes) in swept.items():
        sizes, curves = sizes[context.dataset], {}
        # Pairs of pixels of pictures in colour take seconds a sample.
        count = few if name == "JSMA" and context.dataset == "cifar10" else len(x)
        for loss, network in networks.items():
            part = f"accuracy {name} {loss}"
            accuracy = context.part(part, measured.accuracy_curve, network, make, x[:count], y[:count], sizes)
            context.curve("R4", f"accuracy of {count} samples under {name}, {TITLES[loss]}, detector off", sizes, accuracy)
            row = [accuracy]
            curves[TITLES[loss]] = SecurityCurve(sizes, row, [[0.0] * len(sizes)], [[1 - a for a in accuracy]])
        security_curve(curves, plots / f"{name.lower()}.png", xlabel="theta" if name == "JSMA" else "epsilon", rejection=False)
    for loss, network in networks.items():
        table = _attacks(context, network, x, y, few)
        for name, (attack, count, note) in table.items():
            found = context.part(f"oblivious {name} {loss}", measured.oblivious, network, attack, x[:count], y[:count])
            note = "; ".join(filter(None, [where, note, f"{found['success']:.3f} succeed"]))
            for metric in paper.METRICS:
                known = paper.auc(context.dataset, name, loss, metric)
                what = f"AUC, {name}, {TITLES[loss]}, {TITLES[metric]}"
                context.row("R5", what, found[metric], paper=known, samples=found["pairs"], note=note)
            if name.startswith("C&W"):
                lost = round(found["success"] * found["right"])
                context.row("R4", f"distortion of 255, {name}, {TITLES[loss]}", found["rms"], samples=lost, note=note)


def _white_box_rows(context, networks, x, y, where, plots):
    import numpy as np

    from tfdefense.plots import examples

    crafted, by_title = {}, {}
    for loss, network in networks.items():
        ratio, distance = paper.of(paper.WHITE_BOX, context.dataset, loss) or (None, None)
        by_start = {}
        for start, title in (("sample", "from x"), ("base", "from the C&W example")):
            by_start[title] = context.part(f"white box {start} {loss}", measured.white_box, network, start, _cw(context), x, y)
        clean = context.part(f"white box clean {loss}", measured.above_median, network, x, y)
        about = f"f2 > 0, clean test samples that are right, {TITLES[loss]}"
        context.row(
            "R6", about, clean, samples=int(network.right(x, y).sum()), note="what the shares below are to be compared with"
        )
        crafted[loss] = measured.better(*by_start.values())
        by_start["the better for each sample"] = crafted[loss]
        for title, found in by_start.items():
            success, (share, right) = np.array(found["success"]), measured.failing(found)
            known = title == "from x"
            mean = float(np.array(found["rms"])[success].mean()) if success.any() else None
            about = f"C&W-wb {title}, {TITLES[loss]}"
            note = f"{where}; also those that it never misleads; the paper: 9 rounds of 10,000 steps"
            context.row("R6", f"f2 > 0, {about}", share, paper=ratio if known else None, samples=right, note=note)
            more = {"samples": int(success.sum()), "note": f"{where}; over those that are lost alone"}
            context.row("R6", f"distortion of 255, {about}", mean, paper=distance if known else None, **more)
            by_title.setdefault(title, {})[loss] = found
        shown = np.flatnonzero(crafted[loss]["success"])[:8]
        if len(shown):
            x_adv, label = np.array(crafted[loss]["x_adv"], "float32"), np.array(crafted[loss]["label"])
            examples(x[shown], x_adv[shown], y[shown], label[shown], plots / f"white-box-{loss}.png")
    for title, found in by_title.items():
        both = measured.both_lose(found)
        means = ", ".join(f"{TITLES[loss]} {both[loss]:.2f}" for loss in LOSSES if both[loss] is not None)
        what = f"C&W-wb {title}: distortion of RCE over that of CE, samples that both lose"
        context.row("R6", what, both["ratio"], samples=both["samples"], note=means)
    return crafted


def _transfer_rows(context, targets, crafted, x, y, where):
    import numpy as np

    for source, found in crafted.items():
        x_adv = np.array(found["x_adv"], "float32")
        for loss, target in targets.items():
            found_there = context.part(f"transfer {source} {loss}", measured.aucs, target, x, x_adv, y)
            known = paper.of(paper.TRANSFER, context.dataset, (source, loss))
            what = f"AUC, C&W-wb on {TITLES[source]}, tested on {TITLES[loss]}, K-density"
            told = paper.TOLD_OF_TRANSFER.get(context.dataset, "")
            note = f"{where}; {found_there['pairs']} of {len(x)} mislead the target{told}"
            context.row("R7", what, found_there["density"], paper=known, samples=found_there["pairs"], note=note)


def _adaptive_rows(context, networks, x, y, plots):
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    steps = 40 if context.quick else 100
    for loss, network in networks.items():
        for change, found in context.part(f"control {loss}", measured.control, network, x, y).items():
            context.row("R3", f"rejected, {change}, {TITLES[loss]}", found["rejected"], samples=len(x), note="threshold at 5 %")
            context.row("R3", f"wrong, not rejected, {change}, {TITLES[loss]}", found["error"], samples=len(x))
    for norm, sizes in ADAPTIVE[context.dataset].items():
        curves = {}
        for loss, network in networks.items():
            for starts, title in ((("sample",), "from x"), ("all", "all starts")):
                part = f"adaptive {norm} {title} {loss}"
                found = context.part(part, measured.adaptive, network, norm, sizes, starts, steps, x, y)
                for size, accuracy, rejection in zip(sizes, found["accuracy"], found["rejection"], strict=True):
                    search = "the strongest of three searches" if starts == "all" else "max(margin, suspicion)"
                    note = f"{search}, {steps} steps, threshold at 5 %; {rejection:.3f} rejected"
                    what = f"not fooled, {norm} {size:g}, {title}, {TITLES[loss]}"
                    context.row("R3", what, accuracy, samples=len(x), note=note)
                error = [1 - a for a in found["accuracy"]]
                curves[f"{TITLES[loss]}, {title}"] = SecurityCurve(sizes, [found["accuracy"]], [found["rejection"]], [error])
        security_curve(curves, plots / f"adaptive-{norm}.png", xlabel=norm, rejection=False)


def _tsne_rows(context, networks, x, y, plots):
    from tfdefense.plots import embedding

    for loss, network in networks.items():
        found = context.part(f"t-SNE {loss}", measured.tsne, network, x, y)
        what = f"nearest neighbour in the t-SNE plane of the same class, {TITLES[loss]}"
        context.row("R9", what, found["same_class"], samples=len(x))
        embedding(found["plane"], y, plots / f"tsne-{loss}.png")
