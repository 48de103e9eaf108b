"""Which bandwidth K-density wants on the networks of `rce`: the paper's, and two that are chosen on held-out samples.

One has the highest likelihood of held-out clean samples and needs no attack; the other tells held-out samples best from what
BIM makes of them. All are then tried on the attacks of table 2, and the likeliest under adaptive attacks. Held-out samples are
test samples that no other number here is about. Last, whether the white-box search of `rce` was long enough: ten times as many
steps on a few samples, under the paper's bandwidth.
"""

import dataclasses
import functools

import numpy as np

import tfdefense as td
from evaluation.papers.rce import measure, reproduce
from evaluation.papers.rce import protocol as rce
from evaluation.papers.rce.protocol import Depth, Epochs, Few
from evaluation.papers.rce.reproduce import NONE, each, identify, networks_of
from evaluation.runner.rows import Results

DATASETS = ("mnist", "cifar10", "digits")
# Squared bandwidths over the paper's.
FACTORS = tuple(float(f"{f:.3g}") for f in np.geomspace(1e-4, 10, 16))
BANDWIDTHS = ("paper's", LIKELIEST := "likeliest", "best under BIM")
ATTACKS = ("FGSM", "BIM", "ILCM", "Carlini-Wagner", "C&W-hc own kappa")
LONGER = "ten times as long"


@functools.cache
def density_of(network):
    layer = td.layers.KernelDensity(sigma=1.0, max_points=len(network.data.train))
    layer.adapt(network.outputs(network.data.train.x), network.data.train.y)
    return layer


def score(network, outputs, sigma):
    """Minus log density of samples under any bandwidth: the points are stored once."""
    layer = density_of(network)
    layer.sigma = sigma
    batches = (slice(start, start + 128) for start in range(0, len(outputs[0]), 128))
    return np.concatenate([np.asarray(layer(*(one[rows] for one in outputs))) for rows in batches])


def likelihood(scores, sigma, width):
    """Mean log density of samples, with the volume of the kernel: only so do bandwidths compare."""
    return float(np.mean(-scores) - width * np.log(sigma * np.sqrt(np.pi)))


def separation(network, attack, x, y, sigmas):
    """AUROC under each bandwidth over the samples that were right and are wrong now, and how many these are."""
    both = network.outputs(x), network.outputs(attack(network.models.base, x, y).x_adv)
    pairs = (both[0][1].argmax(1) == y) & (both[1][1].argmax(1) != y)
    aurocs = [td.metrics.auc(*(score(network, one, sigma)[pairs] for one in both)) if pairs.any() else None for sigma in sigmas]
    return aurocs, int(pairs.sum())


def chosen(network):
    """The bandwidth of each kind, of those tried."""
    (x, y), sigmas = (network.data.held_out.x, network.data.held_out.y), [network.sigma * factor**0.5 for factor in FACTORS]
    clean = network.outputs(x)
    likely = [likelihood(score(network, clean, sigma), sigma, clean[0].shape[1]) for sigma in sigmas]
    apart, _ = separation(network, td.attacks.BIM(measure.EPSILON[network.context.dataset]), x, y, sigmas)
    best = network.sigma, sigmas[int(np.argmax(likely))], sigmas[int(np.argmax([auroc or 0.0 for auroc in apart]))]
    return dict(zip(BANDWIDTHS, best, strict=True))


def attacked(network, name, sigmas):
    attack, count, _ = measure.oblivious_attack(network, name)
    aurocs, pairs = separation(network, attack, *network.attacked(count), [sigmas[name] for name in BANDWIDTHS])
    return {"pairs": pairs, **dict(zip(BANDWIDTHS, aurocs, strict=True))}


def run(context, *, depth: Depth = None, epochs: Epochs = None, cw_samples: Few = None):
    training = rce.setup(context, depth, epochs, cw_samples, seeds=1)
    context.settings["samples to choose on"] = context.settings["samples"]
    networks, narrow = networks_of(context, training, bandwidth=BANDWIDTHS[0]), []
    identify(context, networks)
    _the_same(context)
    context.settings["factors of sigma^2"] = FACTORS
    context.settings["thresholds"] = f"5 % of {len(networks[0].data.calibration)} held-out samples"
    for _, network, sigmas in each(context, networks, {"bandwidths": (chosen,)}):
        narrow.append(dataclasses.replace(network, about=network.about | {"bandwidth": LIKELIEST}, sigma=sigmas[LIKELIEST]))
        found = each(context, [network], {attack: (attacked, attack, sigmas) for attack in ATTACKS})
        for name in BANDWIDTHS:
            about = network.about | {"detector": "K-density", "bandwidth": name}
            factor = sigmas[name] ** 2 / network.sigma**2
            note = "" if min(FACTORS) * 1.01 < factor < max(FACTORS) / 1.01 else "the end of what was tried"
            more = {"row": "R2", "n": len(network.data.held_out), "note": note}
            context.row("pang2018.ours.bandwidth", "squared bandwidth", sigmas[name] ** 2, **about, **more)
            for attack, _, one in found:
                more = {"row": "R5", "n": one["pairs"], "note": "" if one["pairs"] else NONE}
                context.row(
                    "pang2018.ours.bandwidth", "AUROC", one[name], **about, **reproduce.oblivious_fields(context, attack), **more
                )
    # The narrow kernel under attackers who know it, and under benign perturbations.
    rce.benign_rows(context, narrow, ("false-positive rate",))
    rce.adaptive_rows(context, narrow, "l2", rce.ADAPTIVE[context.dataset]["l2"], ("all",))
    reproduce.white_box_rows(context, narrow)
    _longer(context, networks, max(2, context.settings["C&W samples"] // 5))


def _longer(context, networks, count):
    """Whether the search of `rce` stops too early: the same with ten times the steps, all of which are made."""
    search = measure.search(context.quick)
    searches = {"usual": search, LONGER: dataclasses.replace(search, steps=10 * search.steps, early_stop=False)}
    parts = {length: (measure.white_box, "base", made, count) for length, made in searches.items()}
    about, found = {"starts": "C&W example"}, {}
    for length, network, one in each(context, networks, parts):
        found[network.system, length] = one
        reproduce.failing_row(context, [network], [one], **about, search=length)
    for network in networks:
        # By how much the usual length is too long a way, where both get there.
        both = [found[network.system, length] for length in searches]
        reproduce.ratio_row(context, [both], **network.about, over="usual", search=LONGER, **about)
    both = [found[network.system, LONGER] for network in networks]
    reproduce.ratio_row(context, [both], **networks[1].about, over="CE", search=LONGER, **about)


def _the_same(context):
    """The networks are those of `rce`: keys of recipes stay where a network is trained anew, and results would not compare."""
    path = context.output / f"rce-{context.dataset}.json"
    if context.quick or not path.exists():
        return
    known = Results.load(path).settings.get("weights", {})
    for name, weights in context.settings["weights"].items():
        if known.get(name, weights) != weights:
            raise ValueError(
                f"`rce_bandwidth` measures the networks of `rce`. Expected {name} with the weights {known[name]} of {path.name}. "
                f"Received {weights}: it was trained anew. Run `python -m evaluation rce --dataset {context.dataset}` first."
            )
