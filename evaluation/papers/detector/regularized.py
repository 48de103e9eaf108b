"""The paper's outlook: the gradient that comes back through a detector regularises the classifier."""

from evaluation.papers.detector.settings import BRANCH
from evaluation.papers.intervals import wilson

TABLE = "metzen2017.ours.regularized"
# Of the detector's loss beside the classifier's. At 0 the same training without it: what both have is adversarial training's.
WEIGHTS = (None, 0.0, 1.0)
STEPS, RATE = 5, 1e-4


def base(weight):
    return "clean" if weight is None else f"trained on, detector weight {weight:g}"


def measured(setting, fitted_on, weight, epochs):
    """A copy of the classifier trained on against attacks and, with a weight, through a static detector, and what it withstands."""
    import keras

    import tfdefense as td

    plan = setting.plan
    model, x, y = keras.models.load_model(setting.network, compile=False), *setting.samples["whole"][:2]
    if weight is not None:
        keras.utils.set_random_seed(0)
        defended = setting.detector((fitted_on,), setting.layers[plan.usual], onto=model)
        attack = td.attacks.PGD(plan.dynamic, steps=STEPS, random_start=True, schedule="fixed")
        trainer = td.AdversarialTraining(td.base_model(defended), attack, share=0.5, detector=defended, detector_weight=weight)
        trainer.compile(keras.optimizers.Adam(RATE), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        trainer.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
        model = td.base_model(defended)
    test = setting.attacked
    search = td.attacks.PGD(plan.dynamic, steps=setting.budget["steps"], starts="all")
    return {
        "clean": td.evaluate(model, test.x, test.y).accuracy,
        "attacked": float(1 - search(model, test.x, test.y).success.mean()),
    }


def add_rows(context, setting, fitted_on):
    """One detector, one size: the adversary's of figure 5."""
    epochs, size = 1 if context.quick else 5, setting.plan.dynamic
    parts = {f"classifier {base(weight)}": (measured, setting, fitted_on, weight, epochs) for weight in WEIGHTS}
    found = context.parts(parts)
    for weight, (name, _) in zip(WEIGHTS, parts.items(), strict=True):
        about = {"row": "M9", "system": "no defense", "base": base(weight), "n": len(setting.attacked)}
        about |= {} if weight is None else {"through": f"{BRANCH} fitted on {fitted_on}", "epochs": epochs}
        clean, attacked = found[name]["clean"], found[name]["attacked"]
        context.row(TABLE, "accuracy", clean, **about, interval=wilson(clean, about["n"]))
        attack = {"attack": "PGD", "norm": "linf", "epsilon": size, "knowledge": "adaptive", "starts": "all"}
        context.row(TABLE, "robust accuracy", attacked, **about, **attack, interval=wilson(attacked, about["n"]))
