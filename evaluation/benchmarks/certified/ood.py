"""Certified "none of these": the AUROC that a discriminator guarantees against images of no class, moved within 0.01 in linf.

Beside it what an attack on the confidence leaves, which is an upper bound, and the same for the confidence of the classifier alone,
of which nothing is proved. The discriminator learns from one such set and is judged on its test images and on others.
"""

from dataclasses import dataclass

import numpy as np

from evaluation.benchmarks.board.protocol import CALIBRATES, MAX_REJECTED

DATASETS = ("mnist", "digits")
EPSILON = 0.01
JOINT, CONFIDENCE = "joint discriminator", "confidence"


@dataclass(frozen=True)
class Setup:
    """What the protocol does on one data set.

    Args:
        recipe: Of the classifier; `settings` change it.
        seen: Training samples that it has seen; of the others the first 2,000 calibrate.
        learned: The set that is out of distribution in training.
        judged: Sets of test images.
        filters: Of the discriminator's convolutions.
        epochs: Of the discriminator.
        samples: Test images of each set.
    """

    recipe: str
    settings: dict
    seen: int
    learned: str
    judged: tuple
    filters: tuple
    epochs: int
    samples: int = 1000


SETUPS = {
    "mnist": Setup("mnist_wong", {}, 45_000, "notmnist", ("notmnist", "letters", "fashion_mnist"), (16, 32), 8),
    "digits": Setup("digits", {"train_samples": 1100}, 1100, "letters8", ("letters8",), (8,), 5, samples=300),
}


def discriminator(shape, filters):
    """A small network of strided convolutions that gives one log-odds."""
    import keras

    layers = [keras.layers.Conv2D(count, 3, strides=2, padding="same", activation="relu") for count in filters]
    dense = [keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.Input(shape), *layers, *dense], name="discriminator")


def build(context, setup):
    """The classifier with a trained discriminator, and beside it a threshold on the confidence; both calibrated."""
    import keras

    import tfdefense as td

    train = td.data.load(context.dataset, "train", data_dir=context.data_dir)
    held_out, train = train.take(slice(setup.seen, None)).take(slice(0, CALIBRATES)), train.take(slice(0, setup.seen))
    outside = td.data.load(setup.learned, "train", data_dir=context.data_dir)
    # As many of one as of the other.
    rows = np.random.default_rng(0).choice(len(outside.x), len(train.x), replace=len(outside.x) < len(train.x))
    x, inside = np.concatenate([train.x, outside.x[rows]]), np.repeat([1, 0], len(train.x))
    epochs, batch = 1 if context.quick else setup.epochs, 128
    keras.utils.set_random_seed(0)
    inner = discriminator(train.x.shape[1:], setup.filters)
    steps = epochs * -(-len(x) // batch)
    trainer = td.DiscriminatorTraining(inner, EPSILON, ramp=max(1, steps // 3))
    trainer.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)))
    trainer.fit(x, inside, batch_size=batch, epochs=epochs, verbose=0)
    network = keras.models.load_model(context.network(setup.recipe, **setup.settings), compile=False)
    defended = td.JointDiscriminator(inner).attach(network)
    td.calibrate(defended, held_out.x, max_rejected=MAX_REJECTED)
    return defended


def measured(context, setup, name, count):
    """The AUROC of one set: as it is, attacked and guaranteed, of both systems; and the share that is rejected."""
    import tfdefense as td

    joint = context.model("model", build, context, setup)
    alone = td.ThresholdDefense(CONFIDENCE, threshold=0.0).attach(td.base_model(joint))
    clean = td.data.load(context.dataset, "test", data_dir=context.data_dir, limit=count).x
    ood = td.data.load(name, "test", data_dir=context.data_dir, limit=count).x
    found = {}
    for system, model in ((JOINT, joint), (CONFIDENCE, alone)):
        own = td.view.decide(model, clean).suspicion
        moved = accepted(model, ood, 3 if context.quick else 50)
        found[system] = {
            "clean": float(td.metrics.auc(own, td.view.decide(model, ood).suspicion)),
            "attacked": float(td.metrics.auc(own, td.view.decide(model, moved).suspicion)),
        }
    proved = td.certify_ood(joint, ood, EPSILON)
    found[JOINT] |= {
        "guaranteed": td.certificates.guaranteed_auroc(joint, clean, ood, EPSILON),
        "rejected": float((td.view.decide(joint, ood).label < 0).mean()),
        "rejected, guaranteed": proved.rejected,
    }
    return {"systems": found, "n": len(ood)}


def accepted(model, x, steps):
    """Out-of-distribution images moved to where the model suspects them least: the better of two starts for each."""
    import tfdefense as td

    class LeastSuspicion(td.attacks.Objective):
        def value(self, scores, suspicion, y, target, scale):
            return suspicion

    view = td.view.View.of(model)
    best, least = x, view.run(x)[1].numpy()
    for start in ("sample", "random"):
        attack = td.attacks.PGD(EPSILON, steps=steps, starts=start, objective=LeastSuspicion())
        # There is no right class: with any, all steps are made and the best point counts.
        moved = attack(model, x, np.zeros(len(x), "int32"), regardless=True).x_adv
        found = view.run(moved)[1].numpy()
        best, least = np.where((found < least)[:, None, None, None], moved, best), np.minimum(found, least)
    return best


def accuracy(context, setup, count):
    """Of clean test images: right, and rejected, with the discriminator and without."""
    import tfdefense as td

    joint = context.model("model", build, context, setup)
    test = td.data.load(context.dataset, "test", data_dir=context.data_dir, limit=count)
    outcomes, alone = td.evaluate(joint, test.x, test.y), td.evaluate(td.base_model(joint), test.x, test.y)
    return {JOINT: [outcomes.accuracy, outcomes.rejection], "no defense": [alone.accuracy, 0.0]}


def run(context):
    from tfdefense import data

    setup = SETUPS[context.dataset]
    count = context.samples_or(setup.samples, 30)
    sets = [name for name in setup.judged if data.available(name, context.data_dir)]
    context.settings.update(
        network=context.network(setup.recipe, **setup.settings).parent.name,
        learned=setup.learned,
        epsilon=EPSILON,
        attack="PGD on the suspicion, 50 steps from the image and from a random point",
        calibrated=f"at most {CALIBRATES} held-out samples, {MAX_REJECTED} of them rejected",
    )
    parts = {"clean": (accuracy, context, setup, count)} | {name: (measured, context, setup, name, count) for name in sets}
    # The first makes the model for all.
    context.model("model", build, context, setup)
    found = context.parts(parts)
    for system, (right, rejected) in found.pop("clean").items():
        context.row("certified_ood", "accuracy", right, system=system, n=count)
        context.row("certified_ood", "false-positive rate", rejected, system=system, n=count)
    for name, one in found.items():
        add_rows(context, name, one)


def add_rows(context, name, found):
    about = {"ood": name, "n": found["n"]}
    kinds = {"clean": {}, "attacked": {"attack": "PGD", "knowledge": "adaptive"}, "guaranteed": {}}
    for system, values in found["systems"].items():
        for kind, fields in kinds.items():
            if kind in values:
                ball = {} if kind == "clean" else {"norm": "linf", "epsilon": EPSILON}
                context.row("certified_ood", "AUROC", values[kind], system=system, bound=kind, **about, **fields, **ball)
        for kind in ("rejected", "rejected, guaranteed"):
            if values.get(kind) is not None:
                bound = "guaranteed" if "," in kind else "clean"
                context.row("certified_ood", "rejection rate", values[kind], system=system, bound=bound, **about)
