"""What the protocol works with: SafetyNets of several kinds, and the models that they are measured beside."""

import functools
import json
from typing import NamedTuple

import numpy as np

from evaluation.papers.detector.fit import Setting
from evaluation.papers.detector.settings import PLANS, Adversary


class Codes(NamedTuple):
    """What the protocol does on one data set, beside the plan of the detector branch."""

    layers: tuple  # of detectors A, B and C, the last first; {n} is the number of the last block of a stage
    size: float  # linf size of the attacks of type II
    source: dict  # settings of the network that transferred attacks come from: the same recipe with another seed
    pairs: int  # clean / adversarial ones, on which RBF-SVMs are fitted
    trained: str | None = None  # recipe of an adversarially trained network of the same layers
    differs: dict | None = None  # what is not as in the paper, or not the same for all, for the page


_DIFFERS = {
    "mnist": {"adversarially trained": "by PGD in l2 of size 2, Adam, 30,000 samples; the other: SGD, all samples, no attack"},
    "cifar10": {
        "classifier": "14 layers, 30 epochs; the paper: 32 layers",
        "attacks are transferred from": "8 layers, 10 epochs",
    },
}
_STAGE_3 = ("last_relu", "stage_3_block_{n}_2_relu", "stage_3_block_{n}_1_relu")
CODES = {
    "mnist": Codes(("dense_2", "dense_1", "pool_2"), 0.2, {}, 3000, "mnist_dnr_pgd", _DIFFERS["mnist"]),
    # Thousands of codes a layer: with more pairs the RBF-SVMs would cost more than the network.
    "cifar10": Codes(_STAGE_3, 2 / 255, {"depth": 8, "epochs": 10}, 1500, differs=_DIFFERS["cifar10"]),
    "digits": Codes(("dense_1", "pool_1", "conv_2"), 0.2, {}, 600, "digits_pgd"),
}


class Net(NamedTuple):
    """One SafetyNet: which of the layers A, B, C it watches and how."""

    watched: str
    levels: int = 4
    join: str = "any"
    by_class: bool = False
    rounds: int = 0  # how many times it is fitted anew, each time on what evaded it too
    benign: bool = False  # whether half of the clean samples that it is fitted on get a benign perturbation
    search: bool = False  # whether C and gamma are chosen by cross-validation; else they are 1 and "scale"
    pairs: int | None = None  # how many it is fitted on, if there are so many; else those of the budget


ALL = "Det A or B or C"
EVERY_CHANGE = f"{ALL}, by class, dynamic, benign perturbations"
MORE = "Det A, C and gamma by cross-validation, 7,000 pairs"
NETS = {
    "Det A, activations as they are": Net("A", levels=0),
    "Det A, binary": Net("A", levels=2),
    "Det A": Net("A"),
    "Det A, C and gamma by cross-validation": Net("A", search=True),
    MORE: Net("A", search=True, pairs=7000),  # nearly all that `RBFSVM` takes by default
    "Det B": Net("B"),
    "Det A and B": Net("AB", join="all"),
    "Det A or B": Net("AB"),
    ALL: Net("ABC"),
    f"{ALL}, by class": Net("ABC", by_class=True),
    f"{ALL}, benign perturbations": Net("ABC", benign=True),
    f"{ALL}, dynamic": Net("ABC", rounds=3),
    EVERY_CHANGE: Net("ABC", by_class=True, rounds=3, benign=True),
}
# At the end of the name of what stands on the adversarially trained network.
TRAINED = ", adversarially trained"
PLAIN = ("plain", f"plain{TRAINED}")
# What any rejection of as many clean samples adds to that network.
CONFIDENCE = f"confidence{TRAINED}"
GUARDS = (*PLAIN, CONFIDENCE, "branch", "Det A", *[name for name, net in NETS.items() if net.watched == "ABC"])
GUARDS += (f"{ALL}, by class{TRAINED}", f"{EVERY_CHANGE}{TRAINED}")
_SYSTEMS = {"plain": "no defense", "confidence": "confidence", "branch": "detector branch"}


def fields(name):
    """System, detector and base of a model, as the rows have them."""
    kind = name.removesuffix(TRAINED)
    base = "adversarially trained" if name.endswith(TRAINED) else "clean"
    return {"system": _SYSTEMS.get(kind, "SafetyNet"), "detector": "" if kind in _SYSTEMS else kind, "base": base}


OUT_OF_FIVE = "DeepFool-5 l2"


class Guards(Setting):
    """The setting of the detector branch, with SafetyNets beside it; `chosen` are the adversaries that all learn from."""

    def __init__(self, context, plan, codes, network, budget, samples, chosen=()):
        super().__init__(context, plan, network, budget, *samples)
        self.codes, self.chosen, self.guards = codes, chosen, {}
        if self.train is not None and len(self.train.classes) > 10:
            # Out of the five likeliest of ten classes an attack has half of them to choose from; the paper asks it of 1,000.
            from tfdefense.attacks import DeepFool

            self.adversaries[OUT_OF_FIVE] = Adversary(OUT_OF_FIVE, None, DeepFool("l2", top=5))
        self.watched = [name.format(n=max(1, (budget["depth"] - 2) // 6) if budget["depth"] else 0) for name in codes.layers]

    def __reduce__(self):
        return prepared, (self.context, self.budget, self.chosen)

    def of(self, name):
        """The setting whose network a model has: this one, or that of the adversarially trained network."""
        return self.trained if name.endswith(TRAINED) else self

    @functools.cached_property
    def trained(self):
        network = self.context.network(self.codes.trained, epochs=1 if self.budget["short"] else None)
        # RBF-SVMs alone are fitted on its adversarial samples: they need fewer of them than a branch.
        samples = (self.train.take(slice(self.budget["pairs"])), self.attacked, self.held_out)
        return Guards(self.context, self.plan, self.codes, network, self.budget, samples, self.chosen)

    def pairs(self, name):
        """How many clean / adversarial pairs a detector is fitted on."""
        count = self.budget["fitted"] if name == "branch" else NETS[name].pairs or self.budget["pairs"]
        return min(count, len(self.samples["train"][0]))

    def net(self, name, fitted_on):
        """A SafetyNet with thresholds of 0, fitted on adversaries of which each sample gets one."""
        import tfdefense as td
        from tfdefense.metrics import benign_perturbation

        net, pairs = NETS[name], self.pairs(name)
        x, y = (part[:pairs] for part in self.samples["train"][:2])
        attacked, clean, sources = self.mixed(fitted_on)[:pairs], x.copy(), np.arange(len(x))
        for number, (kind, size) in enumerate(self.plan.labelled_clean if net.benign else ()):
            rows = slice(2 * number + 1, None, 2 * len(self.plan.labelled_clean))
            clean[rows] = benign_perturbation(x[rows], size, kind, seed=1000 + number)  # not the noise of the control
        layers = [self.watched["ABC".index(letter)] for letter in net.watched]
        kind = td.SafetyNet(layers, net.levels, join=net.join, by_class=net.by_class, search=net.search, threshold=0.0)
        for turn in range(net.rounds + 1):
            defended = kind.attach(self.base)
            td.adapt(defended, clean, y, adversarial=attacked, sources=sources, max_rejected=None)
            if turn == net.rounds:
                return defended
            rows = np.random.default_rng(turn).permutation(len(x))[: self.budget["against"]]
            # Not the random starts of the attacks that it is measured under.
            evaded = self.evading(1000 + turn)(defended, x[rows], y[rows])
            self.context.say(f"  {name}, round {turn + 1}: {evaded.success.mean():.3f} evade it")
            attacked = np.concatenate([attacked, evaded.x_adv[evaded.success]])
            sources = np.concatenate([sources, rows[evaded.success]])

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
                found = self.context.model(f"{name}, fitted", self.net, name.removesuffix(TRAINED), self.chosen)
            if threshold is None and name not in PLAIN:
                td.calibrate(found, self.held_out.x, max_rejected=0.05)
            self.guards[key] = found
        return self.guards[key]

    def source(self, kind):
        """Another network of the same task: attacks transferred from it know nothing of this one's weights.

        As in the paper "another network" is plain, others are tuned on their adversarial samples or have a branch.
        """
        import keras

        depth = {"depth": 8} if self.context.quick and self.budget["depth"] else {}
        epochs = {"epochs": 1} if self.budget["short"] else {}
        path = self.context.network(self.plan.recipe, **self.codes.source | depth | epochs | {"seed": 1})
        model = keras.models.load_model(path, compile=False)
        further = {"one tuned on its adversarial samples": self.tuned, "one with a branch": self.branched}
        return self.context.model(kind, further[kind], model) if kind in further else model

    def tuned(self, model):
        """After two epochs on clean and adversarial samples of their true classes. The paper, with a class of fakes, has those."""
        import keras

        x, y, x_adv = self._attacked_elsewhere(model)
        keras.utils.set_random_seed(0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-4), loss, jit_compile=False)
        model.fit(np.concatenate([x, x_adv]), np.concatenate([y, y]), batch_size=128, epochs=2, verbose=0)
        return model

    def branched(self, model):
        """With a branch of its own; its threshold rejects 5 % of held-out samples."""
        import keras

        import tfdefense as td

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

        x, y = (part[: self.budget["pairs"]] for part in self.samples["train"][:2])
        return x, y, BIM(self.codes.size)(model, x, y, regardless=True).x_adv


_prepared = {}


def prepared(context, budget, chosen=()):
    """The setting of a run. Each process makes it once: samples and models are more to send than to read."""
    from tfdefense import data

    place = [context.dataset, context.quick, context.samples, context.data_dir, context.cache, budget, chosen]
    key = json.dumps(place, default=str)
    if key not in _prepared:
        plan, codes = PLANS[context.dataset], CODES[context.dataset]
        # Those of the protocol `detector`, which shares adversarial samples and branches.
        limit = budget["fitted"] if context.quick or not plan.dynamic else None
        train = data.load(context.dataset, "train", data_dir=context.data_dir, limit=limit)
        test = data.load(context.dataset, "test", data_dir=context.data_dir)
        attacked, rest = test.divide(min(context.samples_or(500, 40), len(test.x) // 2))
        network = context.network(plan.recipe, depth=budget["depth"], epochs=1 if budget["short"] else None)
        samples = (train, attacked, rest.take(slice(2000)))
        _prepared[key] = Guards(context, plan, codes, network, budget, samples, tuple(chosen))
    return _prepared[key]
