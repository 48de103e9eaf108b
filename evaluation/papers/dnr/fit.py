"""The models that are measured: a defense on a network, fitted on the samples of a split, and what is changed of it."""

import functools
import time
from dataclasses import dataclass, field, replace

import numpy as np

from evaluation.papers.dnr.settings import LAYERS, Plan

CLEAN, ROBUST = "clean", "adversarially trained"
TUNED = 50


@dataclass(frozen=True)
class Split:
    """One random choice of samples."""

    plan: Plan
    seed: int
    number: int
    fitted: int
    context: object = field(compare=False, repr=False)

    @functools.cache  # noqa: B019 - a split lives as long as the run
    def data(self):
        from tfdefense import data

        train, test = (data.load(self.context.dataset, part, data_dir=self.context.data_dir) for part in ("train", "test"))
        rng = np.random.default_rng(self.seed)
        rows = self.plan.unseen + rng.permutation(len(train.x) - self.plan.unseen)
        fitted, calibrated = rows[: self.fitted], rows[self.fitted : self.fitted + self.plan.calibrated]
        # For the attacker, whose step sizes must not be chosen by the samples that count.
        tuned = rows[self.fitted + self.plan.calibrated :][:TUNED]
        if not len(tuned):
            tuned = calibrated[-TUNED:]
        tested = rng.permutation(len(test.x))
        if self.number > len(tested):
            raise ValueError(f"`--samples` must be at most {len(tested)} on {self.context.dataset}. Received {self.number}.")
        return {
            "fitted": (train.x[fitted], train.y[fitted]),
            "calibration": train.x[calibrated],
            "tuning": (train.x[tuned], train.y[tuned]),
            "attacked": (test.x[tested[: self.number]], test.y[tested[: self.number]]),
            "clean": (test.x[tested], test.y[tested]),
        }

    def threshold(self):
        return {"calibration": self.data()["calibration"], "max_rejected": self.plan.max_rejected}

    @functools.cache  # noqa: B019
    def network(self, recipe):
        return self.context.network(recipe, **(dict(self.plan.network) if recipe == self.plan.recipe else {}))

    def load(self, base):
        import keras

        return keras.models.load_model(self.network(self.plan.robust if base == ROBUST else self.plan.recipe), compile=False)


@dataclass(frozen=True)
class Variant:
    """A system on a network, and what is changed of it.

    Args:
        system: "no defense", "confidence", "NR" or "DNR".
        base: How its network was trained.
        detector: The change, to read.
        gamma, search, layers: Of the SVMs.
        vectors: Compress each SVM to so many support vectors; 0 for all.
        tune: What is trained on by gradient, "SVMs" or "all".
        adversarial: Whether it is trained on adversarial samples.
        on: The variant that a threshold on the confidence is put on.
    """

    system: str
    base: str = CLEAN
    detector: str = ""
    gamma: str = "scale"
    search: bool = False
    layers: str = ""
    vectors: int = 0
    tune: str = ""
    adversarial: bool = False
    on: object = None

    @property
    def fields(self):
        """Of its rows."""
        return {"system": self.system, "base": self.base, "detector": self.detector}

    @property
    def name(self):
        return ", ".join(text for text in (self.system, self.base if self.base == ROBUST else "", self.detector) if text)


@dataclass(frozen=True)
class Fitted:
    """A variant on the samples of a split. Its model is a file, as one goes on from another's, and parts share them."""

    variant: Variant
    split: Split
    epochs: int = 0

    @functools.cache  # noqa: B019
    def model(self):
        return self.fresh()

    def fresh(self):
        """A copy of the model, to be changed."""
        name = f"model {self.variant.name}, {self.variant.vectors or 'all'} support vectors, split {self.split.seed}"
        return self.split.context.model(name, self.build)

    def build(self):
        import tfdefense as td

        variant = self.variant
        if variant.on:
            defended = td.ThresholdDefense("confidence").attach(replace(self, variant=variant.on).fresh())
            td.calibrate(defended, self.split.data()["calibration"], max_rejected=self.split.plan.max_rejected)
            return defended
        if variant.vectors:
            whole = replace(self, variant=replace(variant, vectors=0, tune="", adversarial=False)).fresh()
            model = td.compress(whole, variant.vectors, self.split.data()["fitted"][0], **self.split.threshold())
        else:
            model = self.split.load(variant.base) if variant.system == "no defense" else self.fit()[0]
        return self.fine_tuned(model) if variant.tune else model

    def fit(self):
        """The defense fitted on a network, and the seconds that it took."""
        import tfdefense as td

        variant, split = self.variant, self.split
        options = {
            "gamma": variant.gamma,
            "search": (dict(split.plan.grid) or True) if variant.search else None,
            "search_samples": split.plan.searched,
        }
        layers = LAYERS[split.context.dataset][variant.layers] if variant.layers else split.plan.layers
        defense = td.NeuralRejection(**options) if variant.system == "NR" else td.DeepNeuralRejection(layers, **options)
        defended = defense.attach(split.load(variant.base))
        split.context.say(f"split {split.seed}: fitting {variant.name} on {split.fitted} samples")
        data, start = split.data()["fitted"], time.perf_counter()
        td.adapt(defended, *data, **split.threshold())
        return defended, time.perf_counter() - start

    def fine_tuned(self, model):
        """Goes on by gradient: with the SVMs, and the network where the variant says so."""
        import keras

        import tfdefense as td
        from tfdefense.attacks import PGD, CrossEntropy, MaximumConfidence

        threshold, rejects, trainer = self.split.threshold(), self.variant.system != "no defense", model
        for layer in model.layers:
            layer.trainable = self.variant.tune == "all" or isinstance(layer, td.layers.RBFSVM)
            if isinstance(layer, keras.layers.Dropout):
                # SVMs were fitted on features of which none is dropped, and judge such.
                layer.rate = 0.0
        if self.variant.adversarial:
            size = {"epsilon": float(self.split.plan.trained), "norm": "l2", "steps": 5, "random_start": True, "schedule": "fixed"}
            objectives = (MaximumConfidence(), CrossEntropy()) if rejects else (CrossEntropy(),)
            trainer = td.AdversarialTraining(model, [PGD(**size, objective=objective) for objective in objectives], share=0.8)
        x, y = self.training_samples()
        rate = keras.optimizers.schedules.CosineDecay(1e-3, self.epochs * -(-len(x) // 128))
        # Where gradients make no step, such as through a saturated kernel, a long one must not follow.
        optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(optimizer, loss={"scores": td.losses.OneVsAllHinge()} if rejects else cross_entropy, jit_compile=False)
        keras.utils.set_random_seed(self.split.seed)
        calibrate = (
            [td.callbacks.CalibrateRejection(threshold["calibration"], threshold["max_rejected"], every_epoch=True)]
            if rejects
            else []
        )
        trainer.fit(x, y, batch_size=128, epochs=self.epochs, verbose=2, callbacks=calibrate)
        return model

    def training_samples(self):
        """What the network was trained on, and what the SVMs were fitted on; never what calibrates."""
        from tfdefense import data

        train = data.load(self.split.context.dataset, "train", data_dir=self.split.context.data_dir)
        seen, (x, y) = slice(self.split.plan.unseen), self.split.data()["fitted"]
        return np.concatenate([train.x[seen], x]), np.concatenate([train.y[seen], y])

    def more_starts(self):
        """Both networks before any was trained on with SVMs: what is left of its scores then may lead nowhere."""
        from tfdefense.attacks import Transferred

        if self.variant.tune != "all" or self.variant.system == "no defense":
            return ()
        return tuple(Transferred(self.split.load(base)) for base in (CLEAN, ROBUST))
