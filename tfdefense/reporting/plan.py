"""What the protocol does on one data set: sizes, samples and steps, fixed before anything is attacked."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfdefense._validation import check_number
from tfdefense.attacks.norms import norm_named


@dataclass(frozen=True)
class Plan:
    """Sizes are in units of the range of the pixels.

    Args:
        linf, l2, l1: Increasing sizes; at the last one nothing can hold, which is how a failed attack shows. Empty leaves a norm
            out.
        compared: The size in each norm at which every attack is run, and benign perturbations beside it.
        ood: Names of out-of-distribution sets, whose images are none of the classes; the first one that is there is used.
        samples: Attacked samples.
        clean: Clean, benignly perturbed and out-of-distribution samples.
        steps, restarts: Of each search by gradients, and its random starts.
        queries: Of a black-box attack.
        refine: Iterations and rounds of Carlini-Wagner.
        votes: On each sample, for the radius in l2 that is proved of a smoothed model.
        substitute: Epochs and samples of the network that transferred attacks are crafted on; no epochs leave it out.
        shown: Adversarial examples in the gallery, for each norm.
        mapped: Samples of each kind in the feature map.
        holds_from: Robust accuracy from which on a model "holds" a size.
    """

    linf: tuple = ()
    l2: tuple = ()
    l1: tuple = ()
    compared: dict = field(default_factory=dict)
    ood: tuple = ()
    samples: int = 100
    clean: int = 1000
    steps: int = 30
    restarts: int = 1
    queries: int = 500
    refine: tuple = (100, 3)
    votes: int = 2000
    substitute: tuple = (3, 10_000)
    shown: int = 10
    mapped: int = 150
    holds_from: float = 0.8

    def __post_init__(self):
        for name in ("samples", "clean", "steps", "restarts", "queries", "votes"):
            check_number(name, getattr(self, name), low=1, whole=True)
        if not self.norms:
            raise ValueError("Expected sizes in at least one norm. Received none: give `linf`, `l2` or `l1`, such as (0.1, 0.5).")
        for norm in self.norms:
            sizes = self.sizes(norm)
            if sizes[0] <= 0 or any(b <= a for a, b in zip(sizes, sizes[1:], strict=False)):
                raise ValueError(f"`{norm}` must be increasing sizes above 0. Received: {sizes}.")
            if self.compared.get(norm) not in sizes:
                raise ValueError(f"`compared` must name one of the sizes {sizes} in {norm}. Received: {self.compared.get(norm)}.")

    @property
    def norms(self):
        return tuple(norm for norm in ("linf", "l2", "l1") if self.sizes(norm))

    def sizes(self, norm):
        return getattr(self, norm_named(norm).name)

    def scaled(self, span):
        """The same plan for pixels whose range is `span` wide."""
        if span == 1:
            return self
        sizes: dict[str, Any] = {norm: tuple(span * size for size in self.sizes(norm)) for norm in self.norms}
        return dataclasses.replace(self, **sizes, compared={norm: span * size for norm, size in self.compared.items()})


PLANS = {
    "mnist": Plan(
        linf=(0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
        l2=(0.5, 1, 1.5, 2, 3, 6),
        compared={"linf": 0.1, "l2": 1.5},
        ood=("notmnist", "letters"),
    ),
    "fashion_mnist": Plan(
        linf=(0.01, 0.025, 0.05, 0.1, 0.2, 0.5),
        l2=(0.25, 0.5, 1, 1.5, 3, 6),
        compared={"linf": 0.05, "l2": 1},
        ood=("mnist", "notmnist", "letters"),
    ),
    "digits": Plan(
        linf=(0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
        l2=(0.25, 0.5, 0.75, 1, 1.5, 3),
        compared={"linf": 0.1, "l2": 0.5},
        ood=("letters8",),
    ),
    "cifar10": Plan(
        linf=(1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 64 / 255),
        l2=(0.1, 0.25, 0.5, 1, 2, 8),
        compared={"linf": 4 / 255, "l2": 0.25},
        ood=("cifar100_out", "cifar100_out_small"),
        substitute=(5, 10_000),
    ),
}
# A short run keeps the sizes that are compared, those that say where a model falls, and the last.
_QUICK = {"samples": 30, "clean": 400, "steps": 8, "queries": 100, "votes": 200, "refine": (20, 2), "substitute": (1, 4000)}


def plan_for(name, shape, *, quick=False, **asked):
    """The plan of a data set, by name; an unknown one gets sizes that grow with its number of pixels.

    Args:
        name: Of the data set.
        shape: Of one sample.
        quick: A short run to see that it works.
        asked: Fields of `Plan` in place of its own; None leaves them. Sizes given without `compared` are compared in the middle.
    """
    plan = PLANS.get(name)
    if plan is None:
        # A change of every pixel by s has l2 length s * sqrt(d); the smallest one that succeeds is several times shorter.
        linf = (0.01, 0.025, 0.05, 0.1, 0.2, 0.5)
        l2 = tuple(float(f"{size * np.sqrt(np.prod(shape)) / (2 if size < 0.5 else 1):.2g}") for size in linf)
        plan = Plan(linf, l2, compared={"linf": linf[2], "l2": l2[2]})
    asked = {key: value for key, value in asked.items() if value is not None}
    known = [field.name for field in dataclasses.fields(Plan)]
    if set(asked) - set(known):
        raise ValueError(
            f"The protocol has the settings {', '.join(known)}. Received: {', '.join(sorted(set(asked) - set(known)))}."
        )
    changed: dict[str, Any] = dict(_QUICK) if quick else {}
    if quick:
        changed |= {norm: _fewer(plan.sizes(norm), plan.compared[norm]) for norm in plan.norms}
    changed |= asked
    compared = dict(plan.compared)
    for norm in ("linf", "l2", "l1"):
        if asked.get(norm):
            sizes = changed[norm] = tuple(asked[norm])
            if len(sizes) < 2:
                raise ValueError(f"`{norm}` must be two or more sizes, at the last of which nothing can hold. Received: {sizes}.")
            compared[norm] = compared[norm] if compared.get(norm) in sizes else sizes[(len(sizes) - 1) // 2]
    return dataclasses.replace(plan, **({"compared": compared} | changed))


def _fewer(sizes, compared):
    at = sizes.index(compared)
    return tuple(dict.fromkeys((*sizes[max(0, at - 1) : at + 2], sizes[-1])))
