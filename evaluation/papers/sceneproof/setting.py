"""What SceneProof is measured on: pairs and forgeries, networks, detectors, and attacks on depth alone."""

import functools
import json
from pathlib import Path

import numpy as np

from evaluation.papers.sceneproof import measure
from evaluation.papers.sceneproof.names import BRANCH, LAYERS, WORST_CASE, ZERO, source
from evaluation.runner.rows import paper_numbers
from tfdefense.attacks import suites

MASK = (False, False, False, True)  # an attacker may change the depth
WATCHED_BY_BRANCH = {"resnet": "stage_2"}  # of the others the second pooling
REJECTED = 0.1  # of held-out real pairs, as many as the paper's detectors reject
SUITE = "sceneproof-2"
# About 1 to 40 mm, in parts of a depth map of 16 bits.
SIZES = tuple(round(millimetres * 6.5535) / 65535 for millimetres in (1, 2, 5, 10, 20, 40))
FAR = 8 / 255  # where nothing should stand, or 8 times the size of the other attacks where that is more


QUICK = {"epochs": 2, "train_samples": 64}


def trained(context, names, width=None):
    """The paths of the networks of those names: "depth", "classifier", "other" of another seed, "resnet"."""
    options = {**(QUICK if context.quick else {}), "width": width or (4 if context.quick else None)}
    # The one that the recipe of the classifier trains for itself: for four times its epochs, on half of its scenes.
    guessing = {"epochs": 4 * QUICK["epochs"], "train_samples": QUICK["train_samples"] // 2} if context.quick else {}
    known = {
        "depth": ("nyu_depth", guessing),
        "classifier": ("nyu_scene", options),
        "other": ("nyu_scene", {"seed": 1} | options),
        "resnet": ("nyu_scene_resnet", options),
    }
    return {name: context.network(known[name][0], **known[name][1]) for name in names}


def scenes_learned(networks):
    """How many of the training scenes the depth network and the classifier have seen."""
    return tuple(
        json.loads((networks[name].parent / "config.json").read_text())["train_samples"] for name in ("depth", "classifier")
    )


_here = {}


def _shared(context, *arguments):
    """The one of this process; its models and samples are made once for all parts that come here."""
    key = repr((context.settings, arguments))
    if key not in _here:
        _here[key] = Setting(context, *arguments)
    return _here[key]


class Setting:
    """Samples, networks and detectors; what takes long is cached as a part or a model of the run.

    Pickled, it is its arguments: a process that works on several parts has one for all of them.

    Args:
        networks: Paths of the classifier, of the other one and of the ResNet that attacks are transferred from, and of the depth
            network.
        learned: How many of the training scenes, in order, the depth network and the classifiers have seen.
        number, few: Real pairs, and as many forged ones, that are attacked, and that the worst case is tried on.
        epsilon: Size of the attacks; None is the one of `SIZES` under which the plain network fares most like the paper's, on
            held-out pairs.
        epochs: Of a branch, and of the tuning of the other network.
    """

    def __init__(self, context, networks, learned, number, few, epsilon, steps, epochs):
        self._arguments = context, networks, learned, number, few, epsilon, steps, epochs
        self.context, self.networks, self.learned = context, networks, learned
        self.number, self.few, self.steps = number, min(few, number), steps
        self.branch_epochs, self.tuning_epochs = epochs
        self._made = {}
        self.tried = {} if epsilon else context.part("sizes of attacks, on held-out pairs", self.by_size)
        self.epsilon = epsilon or _as_in_the_paper(self.tried)

    def __reduce__(self):
        return _shared, self._arguments

    def by_size(self):
        """What the plain network makes of held-out pairs under type I attacks of some sizes."""
        from tfdefense.data import scenes

        held_out, found = self.scenes("held out"), {}
        rows = np.random.default_rng(1).permutation(len(held_out.y))[:100]
        x, y = held_out.x[rows], held_out.y[rows]
        for size in SIZES:
            x_adv = self.gradient(epsilon=size)(self.as_attacked(self.network("classifier")), x, y, mask=MASK).x_adv
            found[str(size)] = measure.rates(self.network("classifier"), scenes.as_in_files(x_adv), y)
        return found

    def network(self, name):
        import keras

        return self._once(name, lambda: keras.models.load_model(self.networks[name], compile=False))

    def _once(self, name, make):
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    @functools.cached_property
    def pairs(self):
        """Real pairs of both splits with the depth that the network guesses, by scene; of both the lost bits are drawn.

        Beside them the errors of guesses before that: see `depth_errors`.
        """
        from tfdefense.data import load, scenes

        found, few = {}, {"train": self.learned[1] + 40, "test": 40}
        for split in few:
            real = scenes.by_scene(load(self.context.dataset, split, data_dir=self.context.data_dir)).x
            real = real[: few[split]] if self.context.quick else real
            guessed = self.network("depth").predict(real[..., : scenes.DEPTH], batch_size=64, verbose=0)
            if split == "train":
                usual = np.median(real[..., scenes.DEPTH :], axis=0)
            else:
                guesses = {"depth network": guessed, "median of the training depths": usual}
                self._made["errors"] = {
                    name: 10 * np.abs(real[..., scenes.DEPTH :] - depth).mean((1, 2, 3)) for name, depth in guesses.items()
                }
            seeds = (0, 1) if split == "train" else (2, 3)
            found[split] = tuple(scenes.spread(each, seed=seed) for each, seed in zip((real, guessed), seeds, strict=True))
        return found

    @property
    def depth_errors(self):
        """Mean absolute errors in metres on each test picture: of the network, and of the median depth at each pixel."""
        return self.pairs and self._made["errors"]

    def scenes(self, part):
        """Real and forged pairs: "fitted" on, "held out" of training, or "test"; those of one part from scenes of that part."""
        from tfdefense.data import scenes

        # Depth that the network has learned by heart is no guess: such scenes are not used.
        cut = {"fitted": slice(*self.learned), "held out": slice(self.learned[1], None), "test": slice(None)}[part]
        real, guessed = self.pairs["test" if part == "test" else "train"]
        return self._once(part, lambda: scenes.real_and_forged(real[cut], predicted=guessed[cut], seed=7))

    @functools.cached_property
    def unfamiliar(self):
        """The test scenes forged in each way that no network or detector has seen."""
        from tfdefense.data import scenes

        made = {kind: scenes.forge(self.pairs["test"][0], kind, seed=7) for kind in scenes.UNFAMILIAR}
        return {kind: (x, np.zeros(len(x), "int32")) for kind, x in made.items()}

    @functools.cached_property
    def attacked(self):
        """The test samples that are attacked: the first ones of each label in a random order."""
        test = self.scenes("test")
        order = np.random.default_rng(0).permutation(len(test.y) // 2)[: self.number]
        rows = np.concatenate([order, order + len(test.y) // 2])
        return test.x[rows], test.y[rows]

    @property
    def first(self):
        """Rows of the samples attacked that the worst case is tried on: the first ones of each label."""
        return np.concatenate([np.flatnonzero(self.attacked[1] == label)[: self.few] for label in (1, 0)])

    def gradient(self, **options):
        from tfdefense.attacks import PGD

        # At a random point too: on pairs of whole values many edges of the first layer have no slope.
        return PGD(**{"epsilon": getattr(self, "epsilon", None), "steps": self.steps, "starts": ("sample", "random")} | options)

    def as_attacked(self, model):
        """What an attacker searches on: pairs get to a model through files, and changes between whole parts of 255 are lost."""
        from evaluation.papers.sceneproof.files import on_files

        # Kept with the model, by whose number it is found again.
        return self._once(id(model), lambda: (on_files(model), model))[0]

    def crafted(self, name, attack, model, x, y, regardless=False):
        from tfdefense.data import scenes

        model, mask = self.as_attacked(model), np.array(MASK)
        return scenes.as_in_files(self.context.adversarial(name, attack, model, x, y, mask=mask, regardless=regardless).x_adv)

    def system(self, name, network="classifier"):
        """The plain network, or one with a detector that was fitted on type I attacks of that network.

        It rejects as many real pairs as all others or, with the paper's own rule, what a detector's score is above 0 of.
        """
        if name == "plain":
            return self.network(network)
        if name.endswith(ZERO):
            return self._once(f"{name} on the {network}", lambda: self._at_zero(name.removesuffix(ZERO), network))
        return self._once(f"{name} on the {network}", lambda: self._fitted(name, network))

    def _fitted(self, name, network):
        make, about = self._with_branch if name == BRANCH else self._with_codes, f"{name} on the {network}"
        return self.context.model(about, make, name, network)

    def _at_zero(self, name, network):
        """The same detectors, read from their file again, with the paper's thresholds."""
        from tfdefense.layers import Threshold

        defended = self._fitted(name, network)
        for layer in defended.layers:
            if isinstance(layer, Threshold):
                layer.value.assign(0.0)
        return defended

    def fitting(self, network):
        """Clean pairs, those that were attacked and which they were, and real ones to calibrate on.

        A real pair stands beside what was forged of it: folds, which are stretches, then part few scenes.
        """
        from tfdefense.data import scenes

        clean = self.scenes("fitted")
        order = np.argsort(clean.source, kind="stable")
        clean = scenes.Scenes(*(each[order] for each in clean))
        x_adv = self.crafted(f"to fit on, {network}", self.gradient(starts="sample"), self.network(network), clean.x, clean.y)
        # What is wrong from the start stays as it is: no sample of an attack.
        attacked = np.flatnonzero((x_adv != clean.x).reshape(len(x_adv), -1).any(-1))
        held_out = self.scenes("held out")
        return clean, x_adv[attacked], attacked, held_out.x[held_out.y == 1]

    def _with_codes(self, name, network):
        import tfdefense as td

        clean, adversarial, sources, real = self.fitting(network)
        defended = td.SafetyNet(LAYERS[name], search=True).attach(self.network(network))
        options = {"adversarial": adversarial, "sources": sources, "calibration": real, "max_rejected": REJECTED}
        return td.adapt(defended, clean.x, clean.y, **options)

    def _with_branch(self, name, network):
        import keras

        import tfdefense as td

        clean, adversarial, _, real = self.fitting(network)
        keras.utils.set_random_seed(0)
        defended = td.AdversaryDetector(WATCHED_BY_BRANCH.get(network, "pool2"), width=16, seed=0).attach(self.network(network))
        trainer = td.DetectorTraining(defended)
        x, labels = np.concatenate([clean.x, adversarial]), np.repeat([0, 1], [len(clean.x), len(adversarial)])
        rate = keras.optimizers.schedules.CosineDecay(1e-3, self.branch_epochs * -(-len(x) // 64))
        trainer.compile(keras.optimizers.Adam(rate, beta_1=0.99), jit_compile=False)
        trainer.fit(x, labels, batch_size=64, epochs=self.branch_epochs, verbose=0)
        td.calibrate(defended, real, max_rejected=REJECTED)
        return defended

    def _fine_tuned(self, network):
        """Another network, which has learned to call its own adversarial pairs forged."""
        import keras

        clean, adversarial, *_ = self.fitting(network)
        keras.utils.set_random_seed(0)
        # A copy: attacks of the same run are transferred from the network as it was.
        tuned = keras.models.load_model(self.networks[network], compile=False)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        tuned.compile(keras.optimizers.Adam(1e-4), loss, jit_compile=False)
        x, y = np.concatenate([clean.x, adversarial]), np.concatenate([clean.y, np.zeros(len(adversarial), clean.y.dtype)])
        tuned.fit(x, y, batch_size=32, epochs=self.tuning_epochs, verbose=0)
        return tuned

    def far(self, system, count=30):
        """Some forged pairs in the worst case, far from where they were, and their labels."""
        x, y = self.attacked
        rows = np.flatnonzero(y == 0)[:count]
        x, y = x[rows], y[rows]
        search = self._worst_case(system, x, y, self.far_size)
        return self.crafted(f"far, {system}", search, self.system(system), x, y), y

    @property
    def far_size(self):
        return max(FAR, 8 * self.epsilon)

    def _transfer(self, attack):
        """The search of a transferred attack, and the network that it is crafted on."""
        from tfdefense.attacks import FGSM, Evade

        network, kind = source(attack)
        if kind == "fast sign":
            # At a random point too, as the others.
            return FGSM(self.epsilon, starts=("sample", "random")), self.network(network)
        if kind == "gradient":
            return self.gradient(), self.network(network)
        if kind == "fine-tuned":
            return self.gradient(), self.context.model(f"{network}, fine-tuned", self._fine_tuned, network)
        return self.gradient(objective=Evade(), starts="sample"), self.system(BRANCH, network)

    def under(self, attack, system):
        """What an attack makes of the samples, the worst case of the first ones alone.

        Type I knows the plain network, type II the system.
        """
        x, y = self.attacked
        if attack == "type I" or (system == "plain" and attack == "type II"):
            return self.crafted("type I", self.gradient(), self.network("classifier"), x, y)
        if "transfer" in attack:
            return self.crafted(attack, *self._transfer(attack), x, y, regardless=True)
        if attack == WORST_CASE:
            x, y = x[self.first], y[self.first]
            return self.crafted(f"{attack}, {system}", self._worst_case(system, x, y), self.system(system), x, y)
        return self.crafted(f"{attack}, {system}", self._paper(system), self.system(system), x, y)

    def _paper(self, system):
        """Gradient descent on classifier and detector; through a differentiable surrogate where these are codes."""
        from tfdefense.attacks import BPDA, Evade

        search = self.gradient(objective=Evade(), starts="sample", early_stop=True)
        return search if system.removesuffix(ZERO) == BRANCH else BPDA(search, exact_forward=False)

    def _worst_case(self, system, x, y, epsilon=None):
        suite, model = suites.get(SUITE), self.as_attacked(self.system(system))
        return suite.worst_case(suite.situation(model, (x, y), "linf", epsilon or self.epsilon, steps=self.steps))

    @property
    def benign(self):
        """Real test pairs under benign perturbations, by name."""
        from tfdefense.data import scenes
        from tfdefense.metrics import benign_perturbation

        real = self.scenes("test").x[self.scenes("test").y == 1]
        found = {}
        # As large as the steps that the set's depth once had, and as the attacks.
        for size in (1 / 255, self.epsilon):
            noisy = real.copy()
            noisy[..., scenes.DEPTH :] = benign_perturbation(real[..., scenes.DEPTH :], size, "sign")
            found[f"depth with sign noise of {10_000 * size:.3g} mm"] = scenes.as_in_files(noisy)
        for name, change in (("mirrored, cropped, brightened", scenes.vary_pair), ("zoomed", scenes.zoomed_pair)):
            found[name] = np.stack([change(pair, np.random.default_rng([0, row])) for row, pair in enumerate(real)])
        return found


def _as_in_the_paper(tried):
    """The size under which the plain network is wrong about as often as the paper's, of both labels together."""
    table4 = [one for one in paper_numbers(Path(__file__).parent) if (one.get("system"), one["attack"]) == ("plain", "type I")]
    known = sum(one["value"] for one in table4)
    return float(min(tried, key=lambda size: abs(tried[size]["F->T"] + tried[size]["T->F"] - known)))
