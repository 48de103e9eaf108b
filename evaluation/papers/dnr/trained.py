"""What makes Deep Neural Rejection hold for real: kernels, layers, training end to end, and an attacked network (row N8).

Each change is one row: accuracy under the paper's attack from the sample, and under the strongest of all starts, at the same
share of rejected clean samples. The plain and the adversarially trained network stand in the same table, with and without
rejection. Everything is fixed before the test samples are seen: nothing is chosen by these numbers.
"""

import functools
from typing import Annotated

import numpy as np
import typer

from evaluation.papers.dnr.measure import ATTACKS, HARMLESS_SAMPLES, STRONGEST, harmless_rejected, measure_curves
from evaluation.papers.dnr.protocol import PLANS, Split

DATASETS = ("mnist", "digits")
# Other layers than those of the paper.
LAYERS = {
    "mnist": {
        "one more": ("pool_2", "dense_1", "dense_2", "logits"),
        "two more": ("pool_1", "pool_2", "dense_1", "dense_2", "logits"),
        "earlier": ("pool_2", "dense_1"),
    },
    "digits": {
        "one more": ("conv_1", "conv_2", "dense_1", "logits"),
        "two more": ("conv_1", "conv_2", "pool_1", "dense_1", "logits"),
        "earlier": ("conv_1", "conv_2"),
    },
}
ROBUST = {"mnist": "mnist_dnr_pgd", "digits": "digits_pgd"}
SIZES = {"mnist": (0, 1.5, 2, 3, 8), "digits": (0, 0.5, 0.75, 1, 4)}
TRAINED_SIZE = {"mnist": 2.0, "digits": 0.75}
LONGER = "DNN attacked in training, trained on as long"
# The row that the goal is about, named before any number was known.
NAMED = "DNR on the DNN attacked in training, end to end, attacked"
# Name, machines ("none", "confidence", "NR" or "DNR"), network, further settings of `build`.
VARIANTS = (
    ("DNN", "none", "plain", {}),
    ("NR", "NR", "plain", {}),
    ("DNR", "DNR", "plain", {}),
    ("DNR, gamma / 4", "DNR", "plain", {"gamma": "0.25*scale"}),
    ("DNR, gamma * 4", "DNR", "plain", {"gamma": "4*scale"}),
    ("DNR, C and gamma by cross-validation", "DNR", "plain", {"search": True}),
    ("DNR, one more layer, earlier", "DNR", "plain", {"layers": "one more"}),
    ("DNR, two more layers, earlier", "DNR", "plain", {"layers": "two more"}),
    ("DNR, earlier layers alone", "DNR", "plain", {"layers": "earlier"}),
    ("DNR, compressed", "DNR", "plain", {"tune": "nothing"}),
    ("DNR, machines trained on, clean", "DNR", "plain", {"tune": "machines", "attacked": False}),
    ("DNR, end to end, clean", "DNR", "plain", {"tune": "all", "attacked": False}),
    ("DNR, end to end, attacked", "DNR", "plain", {"tune": "all", "attacked": True}),
    ("DNN attacked in training", "none", "robust", {}),
    (LONGER, "none", "robust", {"tune": "all", "attacked": True}),
    (f"{LONGER}, confidence", "confidence", "robust", {"of": LONGER}),
    ("NR on the DNN attacked in training", "NR", "robust", {}),
    ("DNR on the DNN attacked in training", "DNR", "robust", {}),
    (NAMED, "DNR", "robust", {"tune": "all", "attacked": True}),
)
SHOWN = ("DNN", "DNR", "DNR, end to end, attacked", LONGER, f"{LONGER}, confidence", "DNR on the DNN attacked in training", NAMED)


class Variant(Split):
    """A split of the main protocol with one model of this table in the place of its methods."""

    def __init__(self, row, networks, epochs, *arguments):
        self.name, self.machines, self.on, self.options = row
        super().__init__(*arguments[:2], networks[self.on], *arguments[2:])
        self.epochs, self.made_of = epochs, (networks, epochs, *arguments)

    @functools.cached_property
    def more_starts(self):
        """Both networks before any was trained on with machines: what is left of its scores then may mislead nobody."""
        import keras

        from tfdefense.attacks import Of

        if self.options.get("tune") != "all" or self.machines == "none":
            return ()
        return tuple(Of(keras.models.load_model(path, compile=False)) for path in self.made_of[0].values())

    def model(self, method=None):
        return self.context.model(f"model {self.name}", self.build), None

    def attackable(self, method=None):
        return self.model()[0]

    def build(self):
        import tfdefense as td

        if self.machines == "none":
            return self.trained_on(self.plain) if "tune" in self.options else self.plain
        layers = LAYERS[self.context.dataset].get(self.options.get("layers"), self.plan.layers)
        options = {"gamma": self.options.get("gamma", "scale"), "search": self.options.get("search")}
        if self.machines == "confidence":
            row = next(row for row in VARIANTS if row[0] == self.options["of"])
            defended = td.ThresholdDefense("confidence").attach(Variant(row, *self.made_of).model()[0])
            td.calibrate(defended, self.data["calibration"], max_rejected=self.plan.max_rejected)
            return defended
        if "tune" in self.options:
            # Goes on from machines that another row has fitted.
            row = next(row for row in VARIANTS if row[1:3] == (self.machines, self.on) and not row[3])
            return self.tuned(Variant(row, *self.made_of).model()[0])
        defense = td.NeuralRejection(**options) if self.machines == "NR" else td.DeepNeuralRejection(layers, **options)
        defended = defense.attach(self.plain)
        self.context.say(f"{self.name}: fitting on {self.fitted} samples")
        td.adapt(defended, *self.data["fitted"], calibration=self.data["calibration"], max_rejected=self.plan.max_rejected)
        return defended

    def tuned(self, defended):
        """Goes on by gradient: the machines, which are compressed first, and the network where the row says so."""
        import tfdefense as td

        model = self.compressed(defended, 500)
        if self.options["tune"] == "nothing":
            return model
        for layer in model.layers:
            machines = isinstance(layer, td.layers.RBFSVM)
            layer.trainable = machines or self.options["tune"] == "all"
        return self.trained_on(model)

    def trained_on(self, model):
        import keras

        import tfdefense as td
        from tfdefense.attacks import PGD, CrossEntropy, MaximumConfidence

        rejects, trainer = self.machines != "none", model
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dropout):
                # Machines were fitted on features of which none is dropped, and judge such.
                layer.rate = 0.0
        if self.options["attacked"]:
            size = {"epsilon": TRAINED_SIZE[self.context.dataset], "norm": "l2", "steps": 5, "random_start": True}
            objectives = (MaximumConfidence(), CrossEntropy()) if rejects else (CrossEntropy(),)
            attacks = [PGD(**size, objective=objective) for objective in objectives]
            trainer = td.AdversarialTraining(model, attacks, share=0.8)
        batch, (x, y) = 128, self.training_samples()
        steps = self.epochs * -(-len(x) // batch)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
        # Where gradients make no step, such as through a saturated kernel, a long one must not follow.
        optimizer = keras.optimizers.Adam(rate, clipnorm=1.0)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trainer.compile(optimizer, loss={"scores": td.losses.OneVsAllHinge()} if rejects else cross_entropy, jit_compile=False)
        keras.utils.set_random_seed(self.seed)
        calibrate = td.callbacks.CalibrateRejection(self.data["calibration"], self.plan.max_rejected, every_epoch=True)
        trainer.fit(x, y, batch_size=batch, epochs=self.epochs, verbose=2, callbacks=[calibrate] if rejects else [])
        return model

    def training_samples(self):
        """What the network was trained on, and what the machines were fitted on; never what calibrates."""
        from tfdefense import data

        train = data.load(self.context.dataset, "train", data_dir=self.context.data_dir)
        x, y = self.data["fitted"]
        seen = slice(self.plan.unseen)
        return np.concatenate([train.x[seen], x]), np.concatenate([train.y[seen], y])

    def clean(self):
        import tfdefense as td

        model, (x, y) = self.model()[0], self.data["clean"]
        outcomes = td.evaluate(model, x, y)
        found = {"accuracy": outcomes.accuracy, "rejection": outcomes.rejection, "samples": len(outcomes)}
        size = TRAINED_SIZE[self.context.dataset]
        return found | ({} if self.machines == "none" else {"harmless": harmless_rejected(model, x, size)})


def add_rows(context, variant, clean, curves, sizes):
    context.row("N3", f"{variant.name}: clean accuracy", clean["accuracy"], samples=clean["samples"])
    if variant.machines != "none":
        context.row("N3", f"{variant.name}: clean rejection", clean["rejection"], samples=clean["samples"])
        for change, share in clean["harmless"].items():
            samples = min(HARMLESS_SAMPLES, clean["samples"])
            context.row("N3", f"{variant.name}: rejected of harmless changes, {change}", share, samples=samples)
    for kind, found in curves.items():
        accuracy, rejection = found["accuracies"][0], found["rejections"][0]
        for size, share, rejected in zip(sizes, accuracy, rejection, strict=True):
            if size:
                what = f"{variant.name}: not fooled at l2 {size:g}, {ATTACKS[kind]}"
                if kind == "paper":
                    note = f"{rejected:.3f} rejected"
                else:
                    # Later searches replace what they have won: what is rejected of the rest is not theirs.
                    note = "attack failed here" if size == sizes[-1] and share > 0.1 else ""
                context.row("N8", what, share, samples=variant.number, note=note)
        what = f"{variant.name}: largest share without a gradient, {ATTACKS[kind]}"
        share, attacked = found["zero_gradient"]
        context.row("N4", what, share, samples=attacked)


def run(
    context,
    *,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of an attack; 100, or 20 in a quick run.", min=1)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training end to end; 5, or 1 in a quick run.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Samples that the machines are fitted on.", min=50)] = None,
):
    from tfdefense.metrics import SecurityCurve
    from tfdefense.plots import security_curve

    dataset, quick = context.dataset, context.quick
    plan, sizes = PLANS[dataset], SIZES[dataset]
    steps = steps or (20 if quick else 100)
    epochs = epochs or (1 if quick else 5)
    fitted = fitted or min(plan.fitted, 1000 if quick else plan.fitted)
    number = context.samples_or(300, 60)
    recipes = {"plain": plan.recipe, "robust": ROBUST[dataset]}
    trained = {kind: context.network(recipes[kind], shared=True) for kind in context.turn(recipes)}
    networks = {kind: trained[kind] for kind in recipes}
    context.settings.update(
        networks=", ".join(path.parent.name for path in networks.values()),
        steps=steps,
        epochs=epochs,
        fitted=fitted,
        calibrated=plan.calibrated,
        max_rejected=plan.max_rejected,
        attacked_size=TRAINED_SIZE[dataset],
        strongest=STRONGEST,
        splits=f"one; the standard error of a share near a half is {0.5 / number**0.5:.3f}",
    )
    drawn, found = {}, {}
    variants = [Variant(row, networks, epochs, plan, context, 0, number, fitted, 0) for row in VARIANTS]
    # What takes long first and last: processes meet in the middle, and one waits for the other's part.
    long = [variant for variant in variants if "attacked" in variant.options]
    rest = [variant for variant in variants if variant not in long]
    for variant in context.turn([*long[::2], *rest, *long[1::2]]):
        found[variant.name] = (
            context.part(f"{variant.name}, clean", variant.clean),
            context.part(variant.name, measure_curves, variant, variant.name, sizes, steps),
        )
    for variant in variants:
        clean, curves = found[variant.name]
        add_rows(context, variant, clean, curves, sizes)
        values = (np.array(curves["strongest"][name]) for name in ("accuracies", "rejections", "errors"))
        drawn[variant.name] = SecurityCurve(sizes, *values)
        what = f"{variant.name}: not fooled, strongest of all starts"
        context.curve("N8", what, sizes, curves["strongest"]["accuracies"][0])
    plots = context.output / f"dnr_trained-{dataset}"
    plots.mkdir(parents=True, exist_ok=True)
    # All of them in one picture could not be told apart.
    few = {name: drawn[name] for name in SHOWN if name in drawn} or drawn
    security_curve(few, plots / "strongest.png", xlabel="l2", rejection=False)
