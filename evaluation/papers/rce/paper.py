"""The paper's networks, trained by the paper's schedule: ResNet-32 on MNIST and, as far as a CPU goes, ResNet-20 on CIFAR-10.

The same tables as of `rce`, on networks that SGD trains for 20,000 and 90,000 steps. Most of the time goes into these: `python -m
training mnist_resnet_rce_sgd` and its siblings may be started before, and go on where they were stopped. The paper's target of the
transfer is ResNet-56; here it is a network of `rce`.
"""

from typing import Annotated

import typer

from evaluation.papers.rce import protocol as rce
from evaluation.papers.rce.protocol import Epochs, Few, Fewer
from evaluation.papers.rce.reproduce import networks_of

DATASETS = ("mnist", "cifar10", "digits")
DEPTHS = {"mnist": 32, "cifar10": 20, "digits": 8}


def run(
    context,
    *,
    depth: Annotated[int | None, typer.Option(help="Depth of the networks, 6n + 2; else 32 on MNIST and 20 on CIFAR-10.")] = None,
    target_depth: Annotated[int | None, typer.Option(help="Depth of the target of the transfer; else 14.")] = None,
    epochs: Epochs = None,
    cw_samples: Few = None,
    wb_samples: Fewer = None,
    seeds: Annotated[int | None, typer.Option(help="Networks of each loss, of seeds 0, 1, ...; else 1.", min=1)] = None,
):
    depth = depth or (8 if context.quick else DEPTHS[context.dataset])
    training = rce.setup(context, depth, epochs, cw_samples, wb_samples, seeds or 1)
    target = {"depth": target_depth or (8 if context.quick or context.dataset == "digits" else 14)}
    context.settings.update({"target depth": target["depth"], "schedule": "SGD in steps; the target's is that of `rce`"})
    if context.quick:
        target["epochs"] = training["epochs"]
    seeds = range(context.settings["seeds"])
    networks = networks_of(context, training, seeds, schedule="_sgd", network="substitute")
    targets = networks_of(context, target, seeds, network="target")
    rce.paper(context, networks, targets, ())
    rce.ours(context, [network for network in networks if network.seed == 0])
