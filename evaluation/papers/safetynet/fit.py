"""What `evaluation/safetynet.py` works with: detectors on codes and the models that they are measured beside."""

import functools
from dataclasses import dataclass, field

import numpy as np

from evaluation.papers.detector.fit import Setting


@dataclass(frozen=True)
class Codes:
    """What the protocol does on one data set, beside the plan of the detector branch.

    Args:
        layers: Those of detectors A, B and C, the last first; {n} is the number of the last block of a stage.
        size: linf size of the attacks of type II.
        source: Settings of the network that transferred attacks come from: the same recipe with another seed.
        pairs: Clean samples, and as many attacked twins, on which machines are fitted.
        hardened: Recipe of a network of the same layers that is attacked in training; None where there is none.
        differs: What is not as in the paper, or not the same for all, for the page.
    """

    layers: tuple
    size: float
    source: dict
    pairs: int
    hardened: str | None = None
    differs: dict = field(default_factory=dict)


CODES = {
    "mnist": Codes(
        ("dense_2", "dense_1", "pool_2"),
        0.2,
        {},
        3000,
        "mnist_dnr_pgd",
        {"attacked in training": "by PGD in l2 of size 2, Adam, 30,000 samples; the other: SGD, all samples, no attack"},
    ),
    # Thousands of codes a layer: with more pairs the machines would cost more than the network.
    "cifar10": Codes(
        ("last_relu", "stage_3_block_{n}_2_relu", "stage_3_block_{n}_1_relu"),
        2 / 255,
        {"depth": 8, "epochs": 10},
        1500,
        differs={"classifier": "14 layers, 30 epochs; the paper: 32 layers", "attacks are transferred from": "8 layers, 10 epochs"},
    ),
    "digits": Codes(("dense_1", "pool_1", "conv_2"), 0.2, {}, 600, "digits_pgd"),
}


@dataclass(frozen=True)
class Net:
    """One SafetyNet: which of the layers A, B, C it watches and how.

    Args:
        rounds: How many times it is fitted anew, each time on what evaded it too.
        harmless: Whether half of the clean samples that it is fitted on get a harmless change.
        hardened: Whether the network itself was attacked in training.
        search: Whether C and gamma are chosen by cross-validation; else they are 1 and "scale".
        pairs: How many it is fitted on, if there are so many; else those of the budget.
    """

    watched: str
    levels: int = 4
    join: str = "any"
    by_class: bool = False
    rounds: int = 0
    harmless: bool = False
    hardened: bool = False
    search: bool = False
    pairs: int | None = None


ALL = "Det A or B or C"
EVERY_CHANGE = f"{ALL}, by class, dynamic, harmless changes"
NETS = {
    "Det A, activations as they are": Net("A", levels=0),
    "Det A, binary": Net("A", levels=2),
    "Det A": Net("A"),
    "Det A, C and gamma by cross-validation": Net("A", search=True),
    # Nearly all that `RBFSVM` takes by default.
    "Det A, C and gamma by cross-validation, 7,000 pairs": Net("A", search=True, pairs=7000),
    "Det B": Net("B"),
    "Det A and B": Net("AB", join="all"),
    "Det A or B": Net("AB"),
    ALL: Net("ABC"),
    f"{ALL}, by class": Net("ABC", by_class=True),
    f"{ALL}, harmless changes": Net("ABC", harmless=True),
    f"{ALL}, dynamic": Net("ABC", rounds=3),
    EVERY_CHANGE: Net("ABC", by_class=True, rounds=3, harmless=True),
    f"{ALL}, by class, attacked in training": Net("ABC", by_class=True, hardened=True),
    f"{EVERY_CHANGE}, attacked in training": Net("ABC", by_class=True, rounds=3, harmless=True, hardened=True),
}
PLAIN = ("plain", "plain, attacked in training")
# What any rejection of as many clean samples adds to that network.
CONFIDENCE = "confidence alone, attacked in training"
HARDENED = (PLAIN[1], CONFIDENCE, *[name for name, net in NETS.items() if net.hardened])


class Guards(Setting):
    """The setting of the detector branch, with detectors on codes beside it; `chosen` are the adversaries that all learn from."""

    def __init__(self, context, plan, codes, network, budget, samples):
        super().__init__(context, plan, network, budget, *samples)
        self.codes, self.chosen = codes, ()
        self.watched = [name.format(n=max(1, (budget["depth"] - 2) // 6) if budget["depth"] else 0) for name in codes.layers]
        self.guards = {}

    def of(self, name):
        """The setting whose network a model has: this one, or that of the network that was attacked in training."""
        return self.hardened if name in HARDENED else self

    @functools.cached_property
    def hardened(self):
        network = self.context.network(self.codes.hardened, epochs=1 if self.budget["short"] else None)
        # Machines alone are fitted on its twins: they need fewer of them than a branch.
        samples = (self.train.take(slice(self.budget["pairs"])), self.attacked, self.held_out)
        made = Guards(self.context, self.plan, self.codes, network, self.budget, samples)
        made.chosen = self.chosen
        return made

    def pairs(self, name):
        """How many clean and as many attacked samples a detector is fitted on."""
        count = self.budget["fitted"] if name == "branch" else NETS[name].pairs or self.budget["pairs"]
        return min(count, len(self.samples["train"][0]))

    def net(self, name, fitted_on):
        """A SafetyNet with thresholds of 0, fitted on adversaries of which each sample gets one."""
        import tfdefense as td
        from tfdefense.metrics import benign_perturbation

        net, pairs = NETS[name], self.pairs(name)
        x, y = (part[:pairs] for part in self.samples["train"][:2])
        attacked, clean = self.mixed(fitted_on)[:pairs], x
        if net.harmless:
            clean, changes = x.copy(), self.plan.harmless
            for number, (kind, size) in enumerate(changes):
                rows = slice(2 * number + 1, None, 2 * len(changes))
                clean[rows] = benign_perturbation(x[rows], size, kind, seed=1000 + number)  # not the noise of the control
        layers = [self.watched["ABC".index(letter)] for letter in net.watched]
        options = {"join": net.join, "by_class": net.by_class, "search": net.search}
        kind = td.SafetyNet(layers, net.levels, **options, threshold=0.0)
        for turn in range(net.rounds + 1):
            defended = kind.attach(self.base)
            td.adapt(defended, clean, y, adversarial=attacked, max_rejected=None)
            if turn == net.rounds:
                return defended
            rows = np.random.default_rng(turn).permutation(len(x))[: self.budget["against"]]
            # Not the random starts of the attacks that it is measured under.
            evaded = self.evading(1000 + turn)(defended, x[rows], y[rows])
            self.context.say(f"  {name}, round {turn + 1}: {evaded.success.mean():.3f} evade it")
            attacked = np.concatenate([attacked, evaded.x_adv[evaded.success]])

    def evading(self, seed):
        """What a SafetyNet is fitted against: the strongest search through its surrogate, with fewer steps and starts."""
        from tfdefense.attacks import BPDA, OrthogonalPGD

        steps = max(2, self.budget["steps"] // 2)
        search = OrthogonalPGD(self.codes.size, steps=steps, starts=("random", "base"), seed=seed)
        return BPDA(search, ((5.0, 2.0),))

    def guard(self, name, threshold=None):
        """A model to be attacked: plain, with a detector, or a SafetyNet; a threshold of None rejects 5 % of held-out samples."""
        import tfdefense as td

        key = (name, threshold)
        if key not in self.guards:
            if name in PLAIN:
                found = self.base
            elif name == CONFIDENCE:
                found = td.ThresholdDefense("confidence").attach(self.base)
            elif name == "branch":
                found = self.detector(self.chosen, self.layers[self.plan.usual], threshold=threshold)
            else:
                found = self.context.model(f"{name}, fitted", self.net, name, self.chosen)
            if threshold is None and name not in PLAIN:
                td.calibrate(found, self.held_out.x, max_rejected=0.05)
            self.guards[key] = found
        return self.guards[key]

    def source(self):
        """Another plain network of the same task: attacks transferred from it know nothing of this one's weights."""
        import keras

        depth = {"depth": 8} if self.context.quick and self.budget["depth"] else {}
        epochs = {"epochs": 1} if self.budget["short"] else {}
        path = self.context.network(self.plan.recipe, **self.codes.source | depth | epochs | {"seed": 1})
        return keras.models.load_model(path, compile=False)

    def sources(self):
        """Those that the paper transfers attacks from: plain, tuned on its own adversarial samples, with a branch."""
        return {
            "another network": self.source,
            "one tuned on its adversarial samples": lambda: self.context.model("tuned network", self.tuned),
            "one with a branch": lambda: self.context.model("other network with a branch", self.branched),
        }

    def tuned(self):
        """The other network after two epochs on clean and adversarial samples of their true classes.

        The paper, which has a class of fakes, labels the adversarial ones so.
        """
        import keras

        model = self.source()
        x, y, x_adv = self._attacked_elsewhere(model)
        keras.utils.set_random_seed(0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
        model.fit(np.concatenate([x, x_adv]), np.concatenate([y, y]), batch_size=128, epochs=2, verbose=0)
        return model

    def branched(self):
        """The other network with a branch of its own; its threshold rejects 5 % of held-out samples."""
        import keras

        import tfdefense as td

        model = self.source()
        x, _, x_adv = self._attacked_elsewhere(model)
        layer = self.layers[self.plan.usual]
        if layer not in [each.name for each in model.layers]:
            layer = self.plan.depths[self.plan.usual].format(n=1)
        defended = td.AdversaryDetector(layer, form=self.plan.form, width=self.budget["width"], seed=0).attach(model)
        keras.utils.set_random_seed(0)
        trainer = td.DetectorTraining(defended)
        trainer.compile(keras.optimizers.Adam(1e-3), jit_compile=False)
        trainer.fit(np.concatenate([x, x_adv]), np.repeat([0, 1], len(x)), batch_size=128, epochs=3, verbose=0)
        td.calibrate(defended, self.held_out.x, max_rejected=0.05)
        return defended

    def _attacked_elsewhere(self, model):
        from tfdefense.attacks import BIM

        x, y, _ = self.samples["train"]
        x, y = x[: self.budget["pairs"]], y[: self.budget["pairs"]]
        return x, y, BIM(self.codes.size)(model, x, y, regardless=True).x_adv
