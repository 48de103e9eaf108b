"""Deep Neural Rejection: accuracy and rejection against the l2 size of a perturbation, beside Neural Rejection and no defense.

Each model is attacked in two ways: as in the paper, from the sample itself, and from all starts, of which the strongest
result of each sample counts. Draws the curves, adversarial examples and the problem in the plane of the paper's figure 2.
"""

import functools
import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from evaluation.papers.dnr.measure import ATTACKS, METHODS, STRONGEST, harmless_rejected, measure_curves

DATASETS = ("mnist", "cifar10", "digits")
HEADINGS = {"std": "deviation"}


@dataclass(frozen=True)
class Plan:
    """What the protocol does on one data set.

    Args:
        trained: How the network is, and what differs from the paper.
        layers: Watched by DNR; NR watches the output layer.
        unseen: Training samples from this one on are not among those that the network was trained on.
        fitted: Samples that the machines are fitted on.
        calibrated: Held-out samples that set the threshold.
        sizes, quick_sizes: l2 sizes of the perturbation.
        ordered: Sizes from which to which the paper has DNR above NR above the plain network.
        shown: l2 sizes of the adversarial examples that are drawn.
        compared: l2 size at which compressed machines are held against whole ones.
    """

    recipe: str
    trained: str
    layers: tuple
    unseen: int
    fitted: int
    calibrated: int
    max_rejected: float
    sizes: tuple
    quick_sizes: tuple
    ordered: tuple
    shown: tuple
    compared: float


PLANS = {
    "mnist": Plan(
        recipe="mnist_dnr",
        trained="8 epochs at a rate that rises first; the paper: 50",
        layers=("dense_1", "dense_2", "logits"),
        unseen=30_000,
        fitted=10_000,
        calibrated=2_000,
        max_rejected=0.05,
        sizes=(0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
        quick_sizes=(0, 1, 2, 4, 8),
        ordered=(1.5, 4),
        shown=(5, 7),
        compared=2,
    ),
    "cifar10": Plan(
        recipe="cifar10_dnr",
        trained="20 epochs, a quarter of the filters; the paper: 75",
        layers=("pool_3", "norm_7", "logits"),
        unseen=40_000,
        fitted=8_000,
        calibrated=2_000,
        max_rejected=0.10,
        sizes=(0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 4),
        quick_sizes=(0, 0.2, 1, 4),
        ordered=(0.2, 1),
        shown=(5, 10),
        compared=0.3,
    ),
    "digits": Plan(
        recipe="digits",
        trained="as the recipe says; not in the paper",
        layers=("conv_2", "dense_1", "logits"),
        unseen=0,
        fitted=1_000,
        calibrated=400,
        max_rejected=0.05,
        sizes=(0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4),
        quick_sizes=(0, 0.5, 1, 2, 4),
        ordered=(0.5, 2),
        shown=(1, 2),
        compared=1,
    ),
}


class Split:
    """One random choice of samples, and the models fitted on it; what an interrupted run has measured needs no fit."""

    def __init__(self, plan, context, network, seed, number, fitted, vectors):
        self.plan, self.context, self.network, self.seed = plan, context, network, seed
        self.number, self.fitted, self.vectors = number, fitted, vectors

    @functools.cached_property
    def data(self):
        from tfdefense import data

        train, test = (data.load(self.context.dataset, part, data_dir=self.context.data_dir) for part in ("train", "test"))
        rng = np.random.default_rng(self.seed)
        rows = self.plan.unseen + rng.permutation(len(train.x) - self.plan.unseen)
        fitted, calibrated = rows[: self.fitted], rows[self.fitted : self.fitted + self.plan.calibrated]
        tested = rng.permutation(len(test.x))
        if self.number > len(tested):
            raise ValueError(f"`--samples` must be at most {len(tested)} on {self.context.dataset}. Received {self.number}.")
        return {
            "fitted": (train.x[fitted], train.y[fitted]),
            "calibration": train.x[calibrated],
            "attacked": (test.x[tested[: self.number]], test.y[tested[: self.number]]),
            "clean": (test.x[tested], test.y[tested]),
        }

    more_starts = ()

    @functools.cached_property
    def plain(self):
        import keras

        return keras.models.load_model(self.network, compile=False)

    @functools.cache  # noqa: B019 - a split lives as long as the run
    def model(self, method):
        """The model of a method, and the seconds that fitting it took."""
        import tfdefense as td

        if method == "DNN":
            return self.plain, 0.0
        defense = td.NeuralRejection() if method == "NR" else td.DeepNeuralRejection(self.plan.layers)
        defended = defense.attach(self.plain)
        self.context.say(f"split {self.seed}: fitting {method} on {self.fitted} samples")
        start = time.perf_counter()
        td.adapt(defended, *self.data["fitted"], calibration=self.data["calibration"], max_rejected=self.plan.max_rejected)
        return defended, time.perf_counter() - start

    @functools.cache  # noqa: B019
    def attackable(self, method):
        """The model that is attacked: compressed where the run asks for it."""
        model, _ = self.model(method)
        return self.compressed(model, self.vectors) if self.vectors and method != "DNN" else model

    def compressed(self, model, vectors):
        """A copy of a model with fewer reference vectors."""
        import keras

        import tfdefense as td

        copy = keras.models.clone_model(model)
        copy.set_weights(model.get_weights())
        calibration = {"calibration": self.data["calibration"], "max_rejected": self.plan.max_rejected}
        return td.compress(copy, vectors, self.data["fitted"][0], **calibration)


def measure_clean(split, method):
    import tfdefense as td

    model, (x, y) = split.attackable(method), split.data["clean"]
    outcomes = td.evaluate(model, x, y)
    found = {"accuracy": outcomes.accuracy, "rejection": outcomes.rejection, "samples": len(outcomes)}
    return found | ({} if method == "DNN" else {"harmless": harmless_rejected(model, x, split.plan.compared)})


def measure_compressed(split, name, vectors, steps):
    """The shares not fooled at one size of the whole model or of the compressed one; on a third of the samples."""
    whole, _ = split.model("DNR")
    few = dict(split.data)
    few["attacked"] = tuple(array[: max(2, len(array) // 3)] for array in few["attacked"])
    part = Split(split.plan, split.context, split.network, split.seed, len(few["attacked"][0]), split.fitted, split.vectors)
    part.data = few
    model = whole if name == "whole" else split.compressed(whole, vectors)
    found = measure_curves(part, f"DNR {name}", (split.plan.compared,), steps, model)
    held = {kind: found[kind]["accuracies"][0][0] for kind in ATTACKS}
    return {"held": held, "size": split.plan.compared, "samples": part.number}


def measure_speed(split, vectors, repeats=7):
    """Time of a prediction beside the plain network's, whole and compressed; what compressing costs; seconds to fit.

    The first part of a run: another process on it waits, so that the times are those of a machine that does nothing else.
    """
    import tfdefense as td
    from tfdefense.view import View

    x = split.data["clean"][0][:256]

    def once(model):
        view = View.of(model)
        start = time.perf_counter()
        view.run(x)[2].numpy()
        return time.perf_counter() - start

    def ratio(model):
        pairs = [(once(model), once(split.plain)) for _ in range(repeats + 1)][1:]
        return float(np.median([mine for mine, _ in pairs]) / np.median([plain for _, plain in pairs]))

    def all_of(model):
        outcomes = td.evaluate(model, *split.data["clean"])
        kept = [layer.vectors for layer in model.layers if isinstance(layer, td.layers.RBFSVM)]
        return {"ratio": ratio(model), "accuracy": outcomes.accuracy, "rejection": outcomes.rejection, "vectors": kept}

    whole, _ = split.model("DNR")
    seconds = {method: split.model(method)[1] for method in METHODS if method != "DNN"}
    return {"whole": all_of(whole), "compressed": all_of(split.compressed(whole, vectors)), "seconds": seconds}


def _short_between_long(splits):
    """Splits and methods in the order of their turn: processes meet at the plain network, where none has to wait for long."""
    long = [(split, method) for split in splits for method in METHODS if method != "DNN"]
    return [*long[: len(long) // 2], *((split, "DNN") for split in splits), *long[len(long) // 2 :]]


def run(
    context,
    *,
    splits: Annotated[int | None, typer.Option(help="Random splits; 5, as in the paper, or 1 in a quick run.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of an attack; 100, or 20 in a quick run.", min=1)] = None,
    fitted: Annotated[int | None, typer.Option(help="Samples that the machines are fitted on.", min=50)] = None,
    vectors: Annotated[int, typer.Option(help="Compress each layer of machines to so many vectors before the attack.", min=0)] = 0,
    figures: Annotated[bool, typer.Option(help="Whether to draw.")] = True,
):
    # All of it now: what is edited in the meantime is not of this run.
    from evaluation.papers.dnr import tables as rows
    from evaluation.papers.dnr.figures import draw
    from tfdefense.metrics import SecurityCurve

    plan = PLANS[context.dataset]
    sizes = plan.quick_sizes if context.quick else plan.sizes
    splits = splits or (1 if context.quick else 5)
    steps = steps or (20 if context.quick else 100)
    fitted = fitted or min(plan.fitted, 1000 if context.quick else plan.fitted)
    number = context.samples_or(300, 60)
    network = context.network(plan.recipe)
    context.headings.update(HEADINGS)
    context.settings.update(
        network=f"{plan.recipe} ({network.parent.name})",
        layers=", ".join(plan.layers),
        trained=plan.trained,
        steps=f"{steps}, each {2.5 / steps:g} of the size; the paper steps along the gradient as long as that is",
        paper_attack="ends once a sample is taken or a step changes it by 1e-6, with its best point; the paper keeps the last one",
        strongest=STRONGEST,
        fitted=fitted,
        calibrated=f"{plan.calibrated} held-out samples; the paper: training samples",
        max_rejected=plan.max_rejected,
        vectors=vectors or "all",
        hyper_parameters="C 1, gamma by the variance of the features; the paper: 5-fold cross-validation",
        samples=f"{number}; the paper: 1,000",
        drawn_anew="machines, held-out and attacked samples; the network is one",
    )
    all_splits = [Split(plan, context, network, seed, number, fitted, vectors) for seed in range(splits)]
    speed = context.part("speed", measure_speed, all_splits[0], vectors or 300)
    compressed = {}
    for name in context.turn(("whole", "compressed")):
        part = f"DNR {name}, at one size"
        compressed[name] = context.part(part, measure_compressed, all_splits[0], name, vectors or 300, steps)
    measured = {}
    for split, method in context.turn(_short_between_long(all_splits)):
        of_clean = context.part(f"split {split.seed}, {method}, clean", measure_clean, split, method)
        measured[split.seed, method] = (
            of_clean,
            context.part(f"split {split.seed}, {method}", measure_curves, split, method, sizes, steps),
        )
    # Told at last: more splits than in an earlier run need no part of it again.
    context.settings["splits"] = splits
    clean = {method: [measured[split.seed, method][0] for split in all_splits] for method in METHODS}
    found = {
        kind: {method: [measured[split.seed, method][1][kind] for split in all_splits] for method in METHODS} for kind in ATTACKS
    }
    curves, zeros = {}, {}
    for kind in ATTACKS:
        zeros[kind] = {method: max(run["zero_gradient"] for run in found[kind][method]) for method in METHODS}
        curves[kind] = {
            method: SecurityCurve.join(
                SecurityCurve(sizes, *(np.array(run[name]) for name in ("accuracies", "rejections", "errors")))
                for run in found[kind][method]
            )
            for method in METHODS
        }
    rows.add_clean_rows(context, clean)
    rows.add_speed_rows(context, speed)
    rows.add_compressed_rows(context, compressed)
    rows.add_curve_rows(context, curves, zeros, plan, number)
    if figures and not context.worker:
        draw(context, all_splits[0], curves, plan, steps)
