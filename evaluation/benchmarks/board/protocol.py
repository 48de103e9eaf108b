"""The board: defenses and combinations on networks trained plainly and against attacks, all against the same attacker.

All systems of a data set share one architecture and its training samples; how each base was trained stands in the settings. Each
base is trained three times, from other seeds. Each system is calibrated as a whole to the same share of rejected clean samples, on
samples that no part of it has seen. The order is that of the median l2 distance over the samples and networks.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks.board.attacker import Attacker
from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.board.measure import add_rows
from evaluation.benchmarks.board.systems import ADVERSARIAL, BOTH, CCAT, CLEAN, JOINED, RECTIFIED, entries

DATASETS = ("mnist", "cifar10", "digits")
MAX_REJECTED, CALIBRATES, VECTORS = 0.05, 2000, 300


@dataclass(frozen=True)
class Setup:
    """What the protocol does on one data set.

    Args:
        recipes: Of the bases, by their names.
        settings: Of all recipes.
        seen: Training samples that the networks have seen. Of the others the first 2,000 calibrate.
        fitted: So many samples defenses are fitted on.
        unseen: Whether these are others than the networks have seen and than calibrate, as the papers' SVMs want.
        layers, codes, branch: Watched by Deep Neural Rejection, by SafetyNet and by the detector branch.
        attacked: Size in linf of the attacks that detectors are trained on.
        compared: The size in each norm at which the suite goes on, where the best are to be told apart.
        sizes: In l2, of the curves.
        linf: Sizes in linf at which robust accuracy is told beside the compared one.
        around: The norm in which defenses that look around a sample measure.
        left_out: Systems that the data set goes without.
        seeds: Networks of each base.
        attacker: How hard is searched.
    """

    recipes: dict
    settings: dict
    seen: int
    fitted: int
    unseen: bool
    layers: tuple
    codes: tuple
    branch: str
    attacked: float
    compared: dict
    sizes: tuple
    linf: tuple = ()
    around: str = "l2"
    left_out: tuple = ()
    seeds: int = 3
    attacker: Attacker = Attacker()


SETUPS = {
    "mnist": Setup(
        recipes={
            CLEAN.name: "mnist_wong",
            ADVERSARIAL.name: "mnist_wong_pgd",
            JOINED.name: "mnist_wong_joined",
            BOTH.name: "mnist_wong_joined_pgd",
            CCAT.name: "mnist_ccat",
            RECTIFIED.name: "mnist_rectified",
        },
        settings={},
        seen=45_000,
        fitted=5_000,
        unseen=True,
        layers=("conv_2", "dense_1", "logits"),
        codes=("conv_2", "dense_1"),
        branch="conv_1",
        attacked=0.15,
        compared={"linf": 0.2, "l2": 2.0},
        sizes=(0.5, 1, 1.5, 2, 2.5, 3, 4, 6),
    ),
    # Codes and a branch on a residual network take hours to fit, the jointly trained bases as long to train, and what looks
    # around a sample 40 hours to attack.
    "cifar10": Setup(
        recipes={CLEAN.name: "cifar10_short", ADVERSARIAL.name: "cifar10_fgsm"},
        settings={},
        seen=40_000,
        fitted=4_000,
        unseen=True,
        layers=("stage_3_block_2", "pool", "logits"),
        codes=("pool",),
        branch="stage_2_block_2",
        attacked=4 / 255,
        compared={"linf": 8 / 255, "l2": 0.5},
        sizes=(0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 4),
        linf=(2 / 255, 4 / 255, 8 / 255),
        around="linf",
        left_out=("SafetyNet", "detector branch", "CPR", "first-order radius", "CPR + confidence"),
        # A step costs twenty times that of the MNIST network.
        attacker=Attacker(steps=30, checked=50),
    ),
    "digits": Setup(
        recipes={
            CLEAN.name: "digits",
            ADVERSARIAL.name: "digits_pgd",
            JOINED.name: "digits_joined",
            BOTH.name: "digits_joined_pgd",
            CCAT.name: "digits_ccat",
            RECTIFIED.name: "digits_rectified",
        },
        settings={"train_samples": 1100},
        seen=1100,
        fitted=1100,
        unseen=False,  # there are none to spare
        layers=("conv_2", "dense_1", "logits"),
        codes=("dense_1",),
        branch="conv_1",
        attacked=0.15,
        compared={"linf": 0.1, "l2": 0.5},
        sizes=(0.25, 0.5, 0.75, 1, 1.5, 3),
    ),
}


class Samples:
    """Who may see which samples; loaded when they are needed, for a resumed run may need none."""

    def __init__(self, context, setup):
        self.context, self.setup = context, setup

    @functools.cached_property
    def train(self):
        from tfdefense import data

        return data.load(self.context.dataset, "train", data_dir=self.context.data_dir)

    @property
    def fitted(self):
        return self._drawn(0)

    @property
    def others(self):
        """As many that no defense was fitted on, where there are any."""
        return self._drawn(self.setup.fitted) if self.setup.unseen else None

    def _drawn(self, begin):
        first, last = (self.setup.seen + CALIBRATES, len(self.train.x)) if self.setup.unseen else (0, self.setup.seen)
        rows = np.random.default_rng(0).permutation(last - first)[begin : begin + self.setup.fitted]
        return self.train.take(first + rows)

    @property
    def held_out(self):
        return self.train.take(np.arange(self.setup.seen, len(self.train.x))[:CALIBRATES])


def trained(context, setup, base, seed, dustbin=False, detector=False):
    """The network of a base; without its dustbin, or the detector that it was trained with, unless that is wanted."""
    import keras

    import tfdefense as td
    import tfdefense.layers  # the network may end in one of them

    network = keras.models.load_model(context.network(setup.recipes[base.name], **setup.settings, seed=seed), compile=False)
    if base.joined and not dustbin:
        network = keras.Model(network.inputs[0], network.outputs[0][:, :-1], name=network.name)
    return td.base_model(network) if td.contract.is_defended(network) and not detector else network


def build(context, setup, system, seed, samples):
    """The defended model, calibrated as a whole; the base itself where there is no defense."""
    import tfdefense as td

    network = trained(context, setup, system.base, seed, system.defense.dustbin, system.defense.trained)
    if system.defense.trained:
        td.calibrate(network, samples.held_out.x, max_rejected=MAX_REJECTED)
        return network
    if system.defense.make is None:
        return network
    fitting = Fitting(setup.attacked, 0 if context.quick else 150_000, 1e-3, VECTORS, max_rejected=MAX_REJECTED)
    return fitting.fit(system.defense.make(td, setup).attach(network), samples.fitted, samples.held_out, samples.others)


def described(paths):
    """The trained networks of one base in words, by what they were trained with."""
    configs = [json.loads((path.parent / "config.json").read_text()) for path in paths]
    config = configs[0]
    words = [config["optimizer"], f"{config['epochs']} epochs", config["loss"].replace("_", " ")]
    words += ["with a dustbin"] if config["dustbin"] else []
    if config["attack"]:
        steps = config["attack"].get("steps", 1)
        words.append("against FGSM with a random start" if steps == 1 else f"against PGD of {steps} steps")
    # Networks trained before have no such setting.
    words += (
        [{"ccat": "confidence-calibrated", "rectified": "with a rectifier"}[config["rejection"]]] if config.get("rejection") else []
    )
    names, accuracies = ", ".join(path.parent.name for path in paths), ", ".join(str(one["test_accuracy"]) for one in configs)
    return f"{'; '.join(words)}; test accuracy {accuracies}; {names}"


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One system, by its name; on all of its bases.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Networks of each base; 3.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the minimum-norm search.", min=1)] = None,
):
    context.refuse_a_part(only)
    setup = SETUPS[context.dataset]
    chosen = entries(setup.recipes, setup.left_out, context.quick, only)
    seeds = range(seeds or (1 if context.quick else setup.seeds))
    attacker = setup.attacker
    if steps:
        attacker = dataclasses.replace(attacker, steps=steps)
    plan = planned(context, setup)
    for base in dict.fromkeys(system.base.name for system in chosen):
        networks = [context.network(setup.recipes[base], **setup.settings, seed=seed) for seed in seeds]
        context.settings[f"base, {base}"] = described(networks)
    context.settings.update(
        networks=f"{len(seeds)} of each base, of seeds {', '.join(map(str, seeds))}",
        suite=f"{attacker.suite} at {' and '.join(f'{norm} {size:.3g}' for norm, size in setup.compared.items())}",
        searches=f"the minimum-norm search of {attacker.steps} steps from every start",
        checks=f"{attacker.checked} samples of the first network each: {attacker.thorough}; {attacker.longer} times the steps",
        fitted=f"{setup.fitted} samples; detectors on attacks of linf {setup.attacked:.3g}",
        calibrated=f"at most {CALIBRATES} held-out samples, {MAX_REJECTED} of them rejected; several thresholds get one rate",
        SVMs=f"those of DNR compressed to {VECTORS} vectors",
        bandwidth="of densities the paper's",
        samples=plan.samples,
        forced_rejections="the minimum-norm search for a rejection, from the sample and a random point",
        interval="of samples and networks drawn together, with replacement",
    )
    # What takes longest first: nobody waits for it at the end.
    chosen = sorted(chosen, key=lambda system: not system.defense.slow)
    keys = [(system, seed) for system in chosen for seed in seeds]
    # Harder searches take as long as all others: of the first network.
    attackers = {seed: attacker if seed == 0 else dataclasses.replace(attacker, checked=0) for seed in seeds}
    parts = {
        f"{', '.join(system.key)}, seed {seed}": (measured, context, system, seed, plan, attackers[seed], len(seeds) > 1)
        for system, seed in keys
    }
    by_part = dict(zip(keys, context.parts(parts).values(), strict=True))
    found = {system: [by_part[system, seed] for seed in seeds] for system in chosen}
    add_rows(context, found, plan.compared, {"l2": setup.sizes, "linf": setup.linf})


def planned(context, setup):
    """Samples and sizes, as the report's plan has them."""
    from tfdefense import data
    from tfdefense.reporting.plan import plan_for

    shape = data.load(context.dataset, "test", data_dir=context.data_dir, limit=10).x.shape[1:]
    asked = {"samples": context.samples_or(500, 16), "clean": 400 if context.quick else 2000, "compared": setup.compared}
    compared = setup.compared
    asked |= {norm: (compared[norm], 8 * compared[norm]) if norm in compared else () for norm in ("linf", "l2")}
    return plan_for(context.dataset, shape, quick=context.quick, **asked)


def measured(context, system, seed, plan, attacker, others=False):
    """Builds a system on one network of its base and attacks it; the check also from examples of the next of `others`."""
    from tfdefense import data

    setup = SETUPS[context.dataset]
    about = f"model {system.name}, {system.base.name}, seed {seed}"
    model = context.model(about, build, context, setup, system, seed, Samples(context, setup))
    images = data.load(context.dataset, "test", data_dir=context.data_dir, limit=plan.clean)
    name = next(name for name in plan.ood if data.available(name, context.data_dir))
    ood = {name: data.load(name, "test", data_dir=context.data_dir, limit=plan.clean).x}
    another = trained(context, setup, system.base, seed + 1) if others and attacker.checked else None
    return attacker.attack(model, images, plan, ood, MAX_REJECTED, setup.attacked, another)
