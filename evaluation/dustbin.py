"""Out-distribution learning: a dustbin class beside none, with foreign images and with samples between the classes.

Rows O1 to O9: adversarial samples crafted on another network, held-back foreign images, letters of another source, the same
networks under attacks that know them, what they reject of harmless changes, and what each of several changes makes of that.
Nothing is chosen by test samples: the length of DeepFool's perturbations and the best change are judged on training samples
that no network here has seen.
"""

from dataclasses import dataclass, field
from typing import Annotated

import typer

DATASETS = ("mnist", "cifar10", "digits")
TITLES = {"naive": "naive", "out": "+out-distribution", "both": "+out-distribution +interpolated"}
HEADINGS = {
    "rejection": "rejected",
    "clean": "clean accuracy",
    "foreign": "foreign rejected",
    "black_box": "black-box error, the worse form of DeepFool",
    "unseen": "on unseen training samples",
    "unseen_black_box": "black-box error there",
    "unseen_clean": "clean accuracy there",
}
FACTORS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
CLASSES = 10  # of every data set here
GOAL = 0.1


@dataclass(frozen=True)
class Plan:
    """What the protocol does on one data set.

    Args:
        recipes: Of the three networks.
        seen: Training samples that the networks see, the first ones.
        foreign: The out-distribution set, whose test images are held back.
        other: A set to train the dustbin with instead, to see whether it knows `foreign` too.
        epsilon: Of FGS and T-FGS.
        ball, step: Of I-FGS.
        kappa: Of C&W.
        sizes: linf sizes of the attacks that know the network.
        controls: Harmless changes; the first is the one of the goal.
        harmless: The largest harmless changes of the training set, where it has any.
        features: Name of the last hidden layer.
        quick: Settings of the recipes in a quick run; a tenth of the dustbin goes with a tenth of the samples.
        changes: Of `_changes`, which are tried.
        settings: Of the recipes, in every run.
        differs: What else is not as in the paper, for the page.
    """

    recipes: dict
    seen: int
    foreign: str
    other: str | None
    epsilon: float
    ball: float
    step: float
    kappa: float
    sizes: tuple
    controls: tuple
    harmless: dict
    features: str
    quick: dict
    changes: tuple
    settings: dict = field(default_factory=dict)
    differs: dict = field(default_factory=dict)


def _recipes(naive, first=None):
    return {"naive": naive, "out": f"{first or naive}_out", "both": f"{first or naive}_interpolated"}


ALL_CHANGES = (
    "harmless",
    "harmless, not sign",
    "harmless, out only",
    "harmless, fewer",
    "harmless, alphas",
    "harmless, other sets",
    "harmless, no noise",
)
PLANS = {
    "mnist": Plan(
        recipes=_recipes("mnist_cuda"),
        seen=50_000,
        foreign="notmnist",
        other="letters",
        epsilon=0.2,
        ball=0.2,
        step=0.02,
        kappa=20.0,
        sizes=(0.1, 0.2),
        controls=(("sign", 0.1), ("gaussian", 0.1), ("sign", 0.2), ("gaussian", 0.2), ("dim", 0.3), ("shift", 1), ("shift", 2)),
        harmless={"sign": 0.15, "gaussian": 0.15, "dim": 0.4, "shift": 2},
        features="features",
        quick={"epochs": 3, "train_samples": 5000},
        changes=ALL_CHANGES,
        differs={
            "letters": "7,000 to train, 3,000 to test; the paper: 10,000, about 8,000",
            "network": "no response normalisation",
        },
    ),
    "cifar10": Plan(
        recipes=_recipes("cifar10_vgg"),
        seen=45_000,
        foreign="cifar100_out_small",
        other=None,
        epsilon=0.03,
        ball=0.05,
        step=0.003,
        kappa=10.0,
        sizes=(0.01, 0.03),
        controls=(("sign", 0.03), ("gaussian", 0.03), ("sign", 0.05), ("gaussian", 0.05), ("dim", 0.3), ("shift", 1), ("shift", 2)),
        harmless={"sign": 0.06, "gaussian": 0.06, "dim": 0.4, "shift": 2},
        features="dense_2",
        quick={"epochs": 1, "train_samples": 4500},
        changes=("harmless",),
        differs={"network": "VGG16 with a quarter of the filters and batch normalisation", "foreign": "5,250 images to train"},
    ),
    "digits": Plan(
        recipes=_recipes("digits"),
        seen=1200,
        foreign="letters8",
        other=None,
        epsilon=0.2,
        ball=0.2,
        step=0.02,
        kappa=5.0,
        sizes=(0.1, 0.2),
        controls=(("sign", 0.1), ("gaussian", 0.1), ("dim", 0.3), ("shift", 1)),
        harmless={"sign": 0.15, "gaussian": 0.15, "dim": 0.4, "shift": 1},
        features="dense_1",
        quick={},
        changes=("harmless",),
        settings={"train_samples": 1200},
    ),
}


def _parts(plan, quick):
    """The dustbin's foreign images and the samples between the classes, as the recipes of whole runs have them."""
    foreign, between = {"set": plan.foreign}, {"interpolated": plan.recipes["naive"], "alpha": 0.5, "per_class": 1500}
    return (foreign | {"limit": 700}, between | {"per_class": 150}) if quick else (foreign, between)


def _networks(plan, quick):
    """The settings of each of the three networks."""
    if not (quick and plan.quick):
        return {kind: plan.settings for kind in plan.recipes}
    foreign, between = _parts(plan, quick)
    dustbins = {"naive": {}, "out": {"dustbin": [foreign]}, "both": {"dustbin": [foreign, between]}}
    return {kind: plan.settings | plan.quick | dustbin for kind, dustbin in dustbins.items()}


def _changes(plan, quick=False):
    """Each change of training: the recipe that it starts from, and the settings that it changes. All were fixed beforehand."""
    (foreign, between), harmless, per_class = _parts(plan, quick), plan.harmless, 150 if quick else 1500
    # Other samples for each: with one seed the same pairs would be blended twice.
    halves = [between | {"alpha": alpha, "per_class": per_class // 2, "seed": seed} for seed, alpha in enumerate((0.35, 0.65))]
    without, quiet = ({kind: harmless[kind] for kind in harmless if kind not in left} for left in (("sign",), ("sign", "gaussian")))
    return {
        "harmless": ("both", {"harmless": harmless}),
        "harmless, not sign": ("both", {"harmless": without}),
        "harmless, out only": ("out", {"harmless": harmless}),
        "harmless, fewer": ("both", {"harmless": harmless, "dustbin": [foreign, between | {"per_class": per_class // 3}]}),
        "harmless, alphas": ("both", {"harmless": harmless, "dustbin": [foreign, *halves]}),
        "harmless, no noise": ("both", {"harmless": quiet}),
        "harmless, other sets": ("both", {"harmless": harmless, "dustbin": [foreign, foreign | {"set": plan.other}, between]}),
    }


# What such training does for a network without a dustbin.
NAIVE_CHANGED = "naive, harmless"


def _wanted(plan, quick, settings, changes):
    """Recipe and settings of each network of the run; what attacks are crafted on has another seed and knows of no dustbin."""
    known = _changes(plan, quick and bool(plan.quick))
    wanted = {kind: (plan.recipes[kind], settings[kind]) for kind in ("naive", "both")}
    for kind in changes:
        recipe, change = known[kind]
        wanted[kind] = plan.recipes[recipe], settings[recipe] | change
    if changes:
        wanted[NAIVE_CHANGED] = plan.recipes["naive"], settings["naive"] | {"harmless": plan.harmless}
    wanted["out"] = plan.recipes["out"], settings["out"]
    if plan.other:
        wanted["other"] = plan.recipes["out"], settings["out"] | {"dustbin": [{"set": plan.other}]}
    return wanted | {"source": (plan.recipes["naive"], settings["naive"] | {"seed": 1})}


TOLD = {
    "harmless": "harmless changes in the training set",
    "harmless, not sign": "harmless changes, Gaussian noise among them but never sign noise",
    "harmless, no noise": "harmless changes but noise, of which it then saw none",
    "harmless, out only": "harmless changes, no interpolated samples",
    "harmless, fewer": "harmless changes, a third of the interpolated samples",
    "harmless, alphas": "harmless changes, interpolated at 0.35 and 0.65",
    "harmless, other sets": "harmless changes, drawn letters as well",
    "joined": "trained as in the paper, joined with a threshold on confidence: up to 5 % of clean samples rejected",
    "threshold": "trained as in the paper, threshold raised to reject 5 % of samples with the goal's noise",
    "harmless, threshold": "harmless changes in the training set, threshold raised to reject 5 % of samples with the goal's noise",
    NAIVE_CHANGED: "naive, harmless changes in the training set",
}


class Samples:
    """Test samples, training samples that no network has seen, and held-back foreign images."""

    def __init__(self, context, plan):
        from tfdefense import data

        options = {"data_dir": context.data_dir}
        train, self.test = (data.load(context.dataset, part, **options) for part in ("train", "test"))
        # Two parts: one sets a threshold, the other judges.
        unseen = train.take(slice(plan.seen, None))
        self.held_out, self.calibration = unseen.take(slice(0, None, 2)), unseen.take(slice(1, None, 2))
        self.foreign = data.load(plan.foreign, "test", **options)


def load(path):
    """A network as a model that may reject, where it has a dustbin."""
    import keras

    import tfdefense as td
    import tfdefense.layers

    model = keras.models.load_model(path, compile=False)
    return td.OutDistribution().attach(model) if model.output_shape[-1] > CLASSES else model


def outcome(model, x, y, adversarial=False):
    import tfdefense as td

    found = td.evaluate(model, x, y, adversarial=adversarial)
    return {"accuracy": found.accuracy, "rejection": found.rejection, "error": found.error, "samples": len(x)}


def steps_of(plan):
    return round(plan.ball / plan.step + 0.49)


def attacks(plan, quick):
    """Name of each of the paper's attacks: the attack, its targets, and whether it takes only few samples."""
    from tfdefense.attacks import BIM, FGSM, CarliniWagner, DeepFool, LogSumExp

    # The gradient of this has the signs of cross-entropy's, and does not round to 0 where the network is sure.
    sure = {"objective": LogSumExp()}
    length = {"steps": 60, "binary_search_steps": 3} if quick else {"steps": 200, "binary_search_steps": 5}
    carlini = CarliniWagner(kappa=plan.kappa, **length)
    return {
        "FGS": (FGSM(plan.epsilon, **sure), (None,), False),
        "I-FGS": (BIM(plan.ball, steps=steps_of(plan), step_size=plan.step, **sure), (None,), False),
        "T-FGS": (FGSM(plan.epsilon), ("least_likely",), False),
        "DeepFool": (DeepFool(), (None,), False),
        "C&W": (carlini, ("least_likely", "most_likely"), True),
    }


def craft(context, plan, source, parts):
    """The paper's five sets on each of some parts, of which the source has every sample right; of C&W those that reach kappa.

    Args:
        parts: By name, samples, classes, and how many of them C&W gets.
    """
    from evaluation.crafted import crafted, joined

    known, made = attacks(plan, context.quick), {}
    # The slow ones first and last, where two processes begin.
    slow = [(part, name, target) for name in known if known[name][2] for part in parts for target in known[name][1]]
    fast = [(part, name, target) for name in known if not known[name][2] for part in parts for target in known[name][1]]
    jobs = [*slow[::2], *fast, *slow[1::2]]
    for part, name, target in context.turn(jobs):
        (x, y, few), (attack, _, slow) = parts[part], known[name]
        count = few if slow else len(x)
        if count:
            about = f"{name}, {part}"
            made[part, name, target] = crafted(context, about, attack, source, x[:count], y[:count], target)
    found = {}
    for part in parts:
        keys = {name: [(part, name, target) for target in known[name][1]] for name in known}
        sets = {name: joined([made[key] for key in own]) for name, own in keys.items() if own[0] in made}
        if "C&W" in sets:
            sets["C&W"] = sets["C&W"].take(sets["C&W"].success)
        found[part] = sets
    return found


def right(model, images, count):
    """The first so many samples that a model has right."""
    import numpy as np

    import tfdefense as td

    rows = np.flatnonzero(td.evaluate(model, images.x, images.y).right)[:count]
    return images.x[rows], images.y[rows]


def factor_that_transfers(naive, samples):
    """The smallest factor on DeepFool's perturbations that misleads the naive network more often than not; else the largest."""
    from evaluation.crafted import lengthened

    for factor in FACTORS:
        error = outcome(naive, lengthened(samples, factor).x_adv, samples.y, True)["error"]
        if error > 0.5:
            break
    return {"factor": factor, "error": error}


def black_box(model, sets):
    return {name: outcome(model, found.x_adv, found.y, True) for name, found in sets.items() if len(found.x)}


def average_error(found, deepfool="DeepFool, longer"):
    """Over the paper's attacks, with one of the two forms of DeepFool."""
    counted = [value["error"] for name, value in found.items() if name == deepfool or not name.startswith("DeepFool")]
    return sum(counted) / len(counted)


def worse_error(found):
    """The average with the form of DeepFool that does the network more harm."""
    return max(average_error(found, name) for name in found if name.startswith("DeepFool"))


def control(model, x, y, controls):
    """What a model makes of samples that nobody attacked."""
    from evaluation.controls import changed

    return {name: outcome(model, made, y) for name, made in changed(x, controls).items()}


def run(
    context,
    *,
    white_samples: Annotated[int | None, typer.Option(help="Samples for attacks that know the network.", min=2)] = None,
    cw_samples: Annotated[int | None, typer.Option(help="Samples for C&W.", min=2)] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of training; else the recipes'.", min=1)] = None,
    changes: Annotated[bool, typer.Option(help="Whether to train and compare the changes.")] = True,
    figures: Annotated[bool, typer.Option(help="Whether to draw.")] = True,
):
    from evaluation import dustbin_rows as rows

    plan, quick = PLANS[context.dataset], context.quick
    number = context.samples_or(1000, 60)
    few, white = min(number, cw_samples or (10 if quick else 100)), min(number, white_samples or (30 if quick else 500))
    settings = {kind: known | ({"epochs": epochs} if epochs else {}) for kind, known in _networks(plan, quick).items()}
    context.headings.update(HEADINGS)
    context.settings.update(
        {"recipes": ", ".join(plan.recipes.values()), "training": settings["both"] or "the recipes'", "samples": number}
        | {"C&W samples": few, "white-box samples": white}
        | {"target of T-FGS": "least likely; the paper names none", "attacks crafted on": "the naive recipe, seed 1"}
        | {"tested": f"the first {number} test samples that this network has right; the paper: all"}
        | {"C&W": "rounds of 200 steps, values clipped; the paper has its authors' code", "DeepFool": "5 likeliest classes"}
        | {"I-FGS": f"{steps_of(plan)} steps; the paper tells none", "white box": "the first test samples, right or not"}
        | plan.differs
    )
    samples = Samples(context, plan)
    wanted = _wanted(plan, quick, settings, (plan.changes[:2] if quick else plan.changes) if changes else ())
    # All in one go: of two processes each begins at its own end, and none waits for what the other trains.
    paths = {kind: context.network(recipe, **known) for kind, (recipe, known) in context.turn(wanted.items())}
    models, source = {kind: load(paths[kind]) for kind in plan.recipes}, load(paths["source"])
    test = right(source, samples.test, number)
    unseen = right(source, samples.held_out, max(10, number // 2))
    parts = {"test samples": (*test, few), "unseen training samples": (*unseen, few // 2)}
    sets, tried = craft(context, plan, source, parts).values()
    transfers = context.part("factor of DeepFool", factor_that_transfers, models["naive"], tried["DeepFool"])
    rows.lengthen(sets, transfers["factor"])
    rows.lengthen(tried, transfers["factor"])
    rows.shares(context, plan, paths)
    rows.clean(context, models, samples)
    rows.table(context, models, source, sets, transfers, 2 * few)
    if plan.other:
        rows.transfer(context, plan, load(paths["other"]), samples)
    rows.controls(context, models, samples, plan, number)
    if changes:
        trained = {kind: load(paths[kind]) for kind in wanted if kind in plan.changes}
        rows.improvements(context, plan, trained, models, samples, sets, tried, number)
        rows.undefended(context, load(paths[NAIVE_CHANGED]), samples, sets)
    rows.white_boxes(context, models, plan, samples, white, few)
    if figures:
        from evaluation.dustbin_figures import draw

        draw(context, plan, models, samples, sets)
