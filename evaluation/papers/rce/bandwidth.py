"""Which bandwidth K-density wants on the networks of `rce` (row R2): the paper's, and two that are chosen on held-out samples.

One has the highest likelihood of held-out clean samples and needs no attack; the other tells held-out samples best from what
BIM makes of them. Both are then tried on the samples and attacks of row R5, and the likeliest under attackers who know it
(R3, R6). Held-out samples are test samples that no other number here is about. Last, whether the white-box search of `rce` was
long enough: ten times as many steps on a few samples, under the paper's bandwidth.
"""

import dataclasses
from typing import Annotated

import numpy as np
import typer

from evaluation.papers.rce import measure as measured
from evaluation.papers.rce.measure import SIGMA, own_kappa
from evaluation.papers.rce.protocol import ADAPTIVE, EPSILON, LOSSES, TITLES

DATASETS = ("mnist", "cifar10", "digits")
# Squared bandwidths over the paper's.
FACTORS = tuple(float(f"{f:.3g}") for f in np.geomspace(1e-4, 10, 16))
LIKELIEST = "the likeliest on held-out samples"


class Densities:
    """Minus log density of samples under any bandwidth: the points are stored once."""

    def __init__(self, path, train):
        import keras

        import tfdefense as td

        self.network = keras.models.load_model(path, compile=False)
        self.hidden = keras.Model(self.network.inputs[0], [self.network.get_layer("pool").output, self.network.outputs[0]])
        self.layer = td.layers.KernelDensity(sigma=1.0, max_points=len(train.x))
        self.layer.adapt(self.outputs(train.x), train.y)

    def outputs(self, x):
        features, scores = self.hidden.predict(x, batch_size=256, verbose=0)
        return features.reshape(len(x), -1), scores

    def doubt(self, outputs, sigma):
        self.layer.sigma = sigma
        features, scores = outputs
        parts = [self.layer(features[i : i + 128], scores[i : i + 128]) for i in range(0, len(features), 128)]
        return np.concatenate([np.asarray(part) for part in parts])


def likelihood(doubt, sigma, width):
    """Mean log density of samples, with the volume of the kernel: only so do bandwidths compare."""
    return float(np.mean(-doubt) - width * np.log(sigma * np.sqrt(np.pi)))


def pairs_of(clean, perturbed, y):
    return (clean[1].argmax(1) == y) & (perturbed[1].argmax(1) != y)


def separation(densities, clean, perturbed, y, sigma):
    """AUC over the samples that were right and are wrong now."""
    from tfdefense.metrics import auc

    pairs = pairs_of(clean, perturbed, y)
    if not pairs.any():
        return None
    return auc(densities.doubt(clean, sigma)[pairs], densities.doubt(perturbed, sigma)[pairs])


def chosen(densities, loss, epsilon, held_out):
    """The bandwidths by likelihood and by BIM, each of those tried."""
    from tfdefense import attacks

    clean = densities.outputs(held_out.x)
    perturbed = densities.outputs(attacks.BIM(epsilon)(densities.network, held_out.x, held_out.y).x_adv)
    sigmas = [SIGMA[loss] * factor**0.5 for factor in FACTORS]
    likely = [likelihood(densities.doubt(clean, sigma), sigma, clean[0].shape[1]) for sigma in sigmas]
    apart = [separation(densities, clean, perturbed, held_out.y, sigma) or 0.0 for sigma in sigmas]
    return {
        "the paper's": SIGMA[loss],
        LIKELIEST: sigmas[int(np.argmax(likely))],
        "the best on held-out samples under BIM": sigmas[int(np.argmax(apart))],
    }


def attacked(densities, attack, sigmas, x, y):
    """AUC under each bandwidth, and the number of pairs."""
    clean, perturbed = densities.outputs(x), densities.outputs(attack(densities.network, x, y).x_adv)
    found = {name: separation(densities, clean, perturbed, y, sigma) for name, sigma in sigmas.items()}
    return {"pairs": int(pairs_of(clean, perturbed, y).sum()), **found}


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of the networks, 6n + 2; else the recipe's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipe's.")] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W.", min=2)] = None,
):
    from evaluation.papers.rce import numbers as paper
    from tfdefense import attacks, data

    quick, dataset = context.quick, context.dataset
    small = quick and dataset != "digits"
    depth, epochs = depth or (8 if quick or dataset == "digits" else 14), epochs or (1 if small else None)
    train = data.load(dataset, "train", data_dir=context.data_dir, limit=5000 if small else None)
    test = data.load(dataset, "test", data_dir=context.data_dir)
    number = min(context.samples_or(500, 60), len(test.x) // 2)
    few = min(number, cw_samples or (30 if quick else 100))
    samples, rest = test.divide(number)
    # One part chooses the bandwidth, the other sets the threshold.
    held_out, calibration = rest.divide(min(number, len(rest.x) // 2))
    calibration = calibration.take(slice(2000))
    epsilon = EPSILON[dataset]
    table = {
        "FGSM": (attacks.FGSM(epsilon), number),
        "BIM": (attacks.BIM(epsilon), number),
        "ILCM": (attacks.ILCM(epsilon), number),
        "C&W": (measured.search(quick), few),
    }
    context.settings.update({"depth": depth, "samples": number, "C&W samples": few, "factors of sigma^2": FACTORS})
    context.settings.update({"epochs": epochs or "the recipe's", "thresholds": f"5 % of {len(calibration.x)} held-out samples"})
    context.settings["C&W"] = "{0.binary_search_steps} rounds of {0.steps} steps".format(measured.search(quick))
    networks, papers = {}, {}
    for loss in context.turn(LOSSES):
        path = context.network(f"{dataset}_resnet_{loss}", depth=depth, epochs=epochs)
        densities = Densities(path, train)
        sigmas = context.part(f"bandwidths {loss}", chosen, densities, loss, epsilon, held_out)
        networks[loss] = measured.Network(context, loss, path, train, calibration, sigmas[LIKELIEST])
        papers[loss] = measured.Network(context, loss, path, train, calibration)
        kappa = own_kappa(densities.network, samples.x, samples.y)
        table["C&W-hc own kappa"] = (measured.search(quick, kappa=kappa), few)
        for name, sigma in sigmas.items():
            factor = sigma**2 / SIGMA[loss] ** 2
            inside = min(FACTORS) * 1.01 < factor < max(FACTORS) / 1.01
            note = "" if inside else "the end of what was tried"
            context.row("R2", f"sigma^2, {name}, {TITLES[loss]}", sigma**2, samples=len(held_out.x), note=note)
        for attack, (made, count) in table.items():
            part = f"{attack} {loss}"
            found = context.part(part, attacked, densities, made, sigmas, samples.x[:count], samples.y[:count])
            for name in sigmas:
                known = paper.auc(dataset, attack, loss, "density") if name == "the paper's" else None
                what = f"AUC, {attack}, {TITLES[loss]}, K-density, bandwidth {name}"
                context.row("R5", what, found[name], paper=known, samples=found["pairs"])
    _aware_rows(context, networks, samples.x, samples.y, few)
    _longer_rows(context, papers, samples.x[: max(2, few // 5)], samples.y[: max(2, few // 5)])


def _aware_rows(context, networks, x, y, few):
    """The narrow kernel under attackers who know it, and under harmless changes; its threshold rejects 5 % of clean samples."""
    about, found = f"bandwidth {LIKELIEST}", {"sample": {}, "base": {}}
    for loss in context.turn(LOSSES):
        network = networks[loss]
        for change, one in context.part(f"control {loss}", measured.control, network, x, y).items():
            context.row("R3", f"rejected, {change}, {TITLES[loss]}, {about}", one["rejected"], samples=len(x))
        sizes, steps = ADAPTIVE[context.dataset]["l2"], 40 if context.quick else 100
        held = context.part(f"adaptive {loss}", measured.adaptive, network, "l2", sizes, "all", steps, x, y)
        for size, accuracy, rejection in zip(sizes, held["accuracy"], held["rejection"], strict=True):
            note = f"the strongest of three searches, {steps} steps, threshold at 5 %; {rejection:.3f} rejected"
            what = f"not fooled, l2 {size:g}, all starts, {TITLES[loss]}, {about}"
            context.row("R3", what, accuracy, samples=len(x), note=note)
        for start in found:
            made = measured.search(context.quick)
            part = f"white box {start} {loss}"
            found[start][loss] = context.part(part, measured.white_box, network, start, made, x[:few], y[:few])
    stronger = {loss: measured.better(found["sample"][loss], found["base"][loss]) for loss in LOSSES}
    for loss, network in networks.items():
        clean = context.part(f"white box clean {loss}", measured.above_median, network, x[:few], y[:few])
        for title, one in (("from x", found["sample"]), ("from the C&W example", found["base"])):
            share, right = measured.failing(one[loss])
            note = f"{clean:.3f} of the clean ones have f2 > 0"
            context.row("R6", f"f2 > 0, C&W-wb {title}, {TITLES[loss]}, {about}", share, samples=right, note=note)
    what = f"C&W-wb the better for each sample: distortion of RCE over that of CE, samples that both lose, {about}"
    _ratio_row(context, what, stronger)


def _ratio_row(context, what, found):
    both = measured.both_lose(found)
    means = ", ".join(f"{TITLES[loss]} {both[loss]:.2f}" for loss in LOSSES if both[loss] is not None)
    context.row("R6", what, both["ratio"], samples=both["samples"], note=means)


def _longer_rows(context, networks, x, y):
    """Whether the search of `rce` stops too early: the same with ten times the steps, all of which are made."""
    usual = measured.search(context.quick)
    searches = {"usual": usual, "longer": dataclasses.replace(usual, steps=10 * usual.steps, early_stop=False)}
    found = {length: {} for length in searches}
    for loss in context.turn(LOSSES):
        for length, made in searches.items():
            part = f"white box {length} {loss}"
            found[length][loss] = context.part(part, measured.white_box, networks[loss], "base", made, x, y)
    about = "C&W-wb from the C&W example, ten times as long, bandwidth the paper's"
    for loss in LOSSES:
        (share, right), (before, _) = (measured.failing(found[length][loss]) for length in ("longer", "usual"))
        note = f"{before:.3f} with the usual length"
        context.row("R6", f"f2 > 0, {about}, {TITLES[loss]}", share, samples=right, note=note)
        # By how much the usual length is too long a way, where both get there.
        lengths = measured.both_lose({"ce": found["usual"][loss], "rce": found["longer"][loss]})
        note = "over the samples that both lengths lose"
        what = f"distortion, ten times as long over the usual length, bandwidth the paper's, {TITLES[loss]}"
        context.row("R6", what, lengths["ratio"], samples=lengths["samples"], note=note)
    _ratio_row(context, f"{about}: distortion of RCE over that of CE, samples that both lose", found["longer"])
