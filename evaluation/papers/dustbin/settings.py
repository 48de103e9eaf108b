"""What `evaluation/dustbin.py` does on each data set: the networks that it trains, attacks, sizes, and how they are told."""

from dataclasses import dataclass, field

TITLES = {"naive": "naive", "out": "+out-distribution", "both": "+out-distribution +interpolated"}
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
        changes: Of `changes_of`, which are tried.
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


def _recipes(naive):
    return {"naive": naive, "out": f"{naive}_out", "both": f"{naive}_interpolated"}


ALL_CHANGES = (
    "harmless",
    "harmless, not sign",
    "harmless, out only",
    "harmless, fewer",
    "harmless, alphas",
    "harmless, more",
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


def parts_of(plan, quick):
    """The dustbin's foreign images and the samples between the classes; those of MNIST and CIFAR-10 as their recipes have them."""
    foreign, between = {"set": plan.foreign}, {"interpolated": plan.recipes["naive"], "alpha": 0.5, "per_class": 1500}
    return (foreign | {"limit": 700}, between | {"per_class": 150}) if quick else (foreign, between)


def networks(plan, quick):
    """The settings of each of the three networks."""
    if not (quick and plan.quick):
        return {kind: plan.settings for kind in plan.recipes}
    foreign, between = parts_of(plan, quick)
    dustbins = {"naive": {}, "out": {"dustbin": [foreign]}, "both": {"dustbin": [foreign, between]}}
    return {kind: plan.settings | plan.quick | dustbin for kind, dustbin in dustbins.items()}


def changes_of(plan, quick=False):
    """Each change of training: the recipe that it starts from, and the settings that it changes.

    "harmless, more" was added after a first run on MNIST in which no other met the goal: whoever reads that it is met should
    know that one more was tried. The run therefore trains the change that it chooses once more, with another seed.
    """
    (foreign, between), harmless, per_class = parts_of(plan, quick), plan.harmless, 150 if quick else 1500
    # Other samples for each: with one seed the same pairs would be blended twice.
    both = [between | {"alpha": alpha, "seed": seed} for seed, alpha in enumerate((0.35, 0.65))]
    halves = [part | {"per_class": per_class // 2} for part in both]
    without, quiet = ({kind: harmless[kind] for kind in harmless if kind not in left} for left in (("sign",), ("sign", "gaussian")))
    return {
        "harmless": ("both", {"harmless": harmless}),
        "harmless, not sign": ("both", {"harmless": without}),
        "harmless, out only": ("out", {"harmless": harmless}),
        "harmless, fewer": ("both", {"harmless": harmless, "dustbin": [foreign, between | {"per_class": per_class // 3}]}),
        "harmless, alphas": ("both", {"harmless": harmless, "dustbin": [foreign, *halves]}),
        "harmless, more": ("both", {"harmless": harmless, "dustbin": [foreign, *both]}),
        "harmless, no noise": ("both", {"harmless": quiet}),
        "harmless, other sets": ("both", {"harmless": harmless, "dustbin": [foreign, foreign | {"set": plan.other}, between]}),
    }


# What such training does for a network without a dustbin.
NAIVE_CHANGED = "naive, harmless"


def recipes_of(plan, quick, settings, changes):
    """Recipe and settings of each network of the run; what attacks are crafted on has another seed and knows of no dustbin."""
    known = changes_of(plan, quick and bool(plan.quick))
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
    "harmless, more": "harmless changes, twice the interpolated samples, at 0.35 and 0.65",
    "harmless, other sets": "harmless changes, drawn letters as well",
    "joined": "trained as in the paper, joined with a threshold on confidence: up to 5 % of clean samples rejected",
    NAIVE_CHANGED: "naive, harmless changes in the training set",
}
AGAIN = ", trained again"  # with another seed
# Of networks whose threshold is set anew: of both additions as in the paper, and of those that saw noise.
BY_NOISE = ", threshold by noise"
ADJUSTED = ("both", "harmless", "harmless, alphas", "harmless, more")


def title(kind):
    """What a network is called on the page."""
    name, again, _ = kind.partition(AGAIN)
    name, found, _ = name.partition(BY_NOISE)
    told = TITLES.get(name) or TOLD[name]
    told += ", threshold set to reject 5 % of samples with the goal's noise" if found else ""
    return told + (", trained again with another seed" if again else "")
