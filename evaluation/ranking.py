"""The board: every defense and combination, on a plain and on an adversarially trained base, against the same attacker.

All share one architecture and its training samples, and each is calibrated as a whole to the same share of rejected clean
samples, on samples that no part of it has seen. Against each the same searches run from all starts, with the attack that its
authors would use, and what any of them finds counts. The order is that of the l2 size at which half of the samples are fooled.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from evaluation import results
from evaluation.fitting import Fitting

DATASETS = ("mnist", "digits")
BASES = ("plain", "attacked", "joined", "joined, attacked")
HEADINGS = {"what": "system", "ours": "half fooled at l2", "between": "l2 interval (95 %)"}
MAX_REJECTED, CALIBRATES = 0.05, 2000


@dataclass(frozen=True)
class Setup:
    """What the protocol does on one data set.

    Args:
        recipes: Of the bases: plain, trained against PGD, with a dustbin and reverse cross-entropy, and that against PGD too.
        settings: Of all recipes.
        seen: Training samples that the networks have seen. Of the others the first 2,000 calibrate.
        fitted: So many samples defenses are fitted on.
        unseen: Whether these are others than the networks have seen and than calibrate, as the papers' machines want.
        layers, codes, branch: Watched by Deep Neural Rejection, by SafetyNet and by the detector branch.
        attacked: Size in linf of the attacks that detectors are trained on.
    """

    recipes: tuple
    settings: dict
    seen: int
    fitted: int
    unseen: bool
    layers: tuple
    codes: tuple
    branch: str
    attacked: float


SETUPS = {
    "mnist": Setup(
        recipes=("mnist_dnr", "mnist_dnr_pgd", "mnist_joined", "mnist_joined_pgd"),
        settings={},
        seen=30_000,
        fitted=5_000,
        unseen=True,
        layers=("dense_1", "dense_2", "logits"),
        codes=("dense_1", "dense_2"),
        branch="conv_2",
        attacked=0.15,
    ),
    "digits": Setup(
        recipes=("digits", "digits_pgd", "digits_joined", "digits_joined_pgd"),
        settings={"train_samples": 1100},
        seen=1100,
        fitted=1100,
        unseen=False,  # there are none to spare
        layers=("conv_2", "dense_1", "logits"),
        codes=("dense_1",),
        branch="conv_1",
        attacked=0.15,
    ),
}
VECTORS = 300


@dataclass(frozen=True)
class System:
    """A defense on a kind of base; `make(td, setup)` gives it, None leaves the base as it is."""

    name: str
    joined: bool
    make: Callable | None


def _dnr(td, setup):
    return td.DeepNeuralRejection(setup.layers)


def _codes(td, setup):
    return td.SafetyNet(setup.codes)


# Bandwidths of the paper, after cross-entropy and after reverse cross-entropy.
_SIGMA, _SIGMA_RCE = (1 / 0.26) ** 0.5, (0.1 / 0.26) ** 0.5
SYSTEMS = (
    System("no defense", False, None),
    System("confidence", False, lambda td, setup: td.ThresholdDefense("confidence")),
    System("NR", False, lambda td, setup: td.NeuralRejection()),
    System("DNR", False, _dnr),
    System("K-density", False, lambda td, setup: td.DensityDefense(_SIGMA)),
    System("SafetyNet", False, _codes),
    System("detector branch", False, lambda td, setup: td.AdversaryDetector(setup.branch, width=16, seed=0)),
    # The class is that of the first: machines that disagree with the network would else reject nothing for it.
    System("DNR + confidence", False, lambda td, setup: td.AnyOf(_dnr(td, setup), td.ThresholdDefense())),
    System("DNR + K-density", False, lambda td, setup: td.AnyOf(_dnr(td, setup), td.DensityDefense(_SIGMA))),
    System("DNR + SafetyNet", False, lambda td, setup: td.AnyOf(_dnr(td, setup), _codes(td, setup))),
    System("dustbin", True, lambda td, setup: td.OutDistribution(threshold=None)),
    System("RCE", True, lambda td, setup: td.AnyOf(td.OutDistribution(threshold=1e9), td.DensityDefense(_SIGMA_RCE))),
    System("RCE + dustbin", True, lambda td, setup: td.AnyOf(td.OutDistribution(threshold=None), td.DensityDefense(_SIGMA_RCE))),
    System("DNR + dustbin", True, lambda td, setup: td.AnyOf(_dnr(td, setup), td.OutDistribution(threshold=None))),
    System(
        "DNR + RCE + dustbin",
        True,
        lambda td, setup: td.AnyOf(_dnr(td, setup), td.DensityDefense(_SIGMA_RCE), td.OutDistribution(threshold=None)),
    ),
    System(
        "RCE + dustbin + SafetyNet",
        True,
        lambda td, setup: td.AnyOf(td.OutDistribution(threshold=None), td.DensityDefense(_SIGMA_RCE), _codes(td, setup)),
    ),
)
_QUICK = ("no defense", "confidence", "K-density", "RCE + dustbin")


def entries(quick, only):
    """Pairs of a system and the number of its base."""
    systems = [s for s in SYSTEMS if (only is None or s.name == only) and (not quick or only is not None or s.name in _QUICK)]
    if not systems:
        raise ValueError(f"`--only` must be one of {', '.join(s.name for s in SYSTEMS)}. Received {only!r}.")
    return [(system, base) for system in systems for base in ((2, 3) if system.joined else (0, 1))]


class Samples:
    """Who may see which samples; loaded when they are needed, for a resumed run may need none."""

    def __init__(self, context, setup):
        self.context, self.setup = context, setup

    @functools.cached_property
    def train(self):
        from tfdefense import data

        return data.load(self.context.dataset, "train", data_dir=self.context.data_dir)

    @property
    def fitted(self):
        return self._drawn(0)

    @property
    def others(self):
        """As many that no defense was fitted on, where there are any."""
        return self._drawn(self.setup.fitted) if self.setup.unseen else None

    def _drawn(self, begin):
        first, last = (self.setup.seen + CALIBRATES, len(self.train.x)) if self.setup.unseen else (0, self.setup.seen)
        rows = np.random.default_rng(0).permutation(last - first)[begin : begin + self.setup.fitted]
        return self.train.take(first + rows)

    @property
    def held_out(self):
        return self.train.take(np.arange(self.setup.seen, len(self.train.x))[:CALIBRATES])


def build(context, setup, system, base, samples):
    """The defended model, calibrated as a whole; the base itself where there is no defense."""
    import keras

    import tfdefense as td
    import tfdefense.layers  # the network may end in one of them

    network = keras.models.load_model(context.network(setup.recipes[base], **setup.settings), compile=False)
    if system.make is None:
        return network
    fitting = Fitting(setup.attacked, 0 if context.quick else 150_000, 1e-3, VECTORS, max_rejected=MAX_REJECTED)
    return fitting.fit(system.make(td, setup).attach(network), samples.fitted, samples.held_out, samples.others)


def measure(context, model, number, steps):
    """The protocol of `td.report`, but for the parts that no rank follows from."""
    from tfdefense import data
    from tfdefense.reporting.plan import plan_for
    from tfdefense.reporting.protocol import Protocol, run

    asked = {"samples": number, "steps": steps, "substitute": (0, 0), "clean": 400 if context.quick else 2000}
    test = data.load(context.dataset, "test", data_dir=context.data_dir)
    plan = plan_for(context.dataset, test.x.shape[1:], quick=context.quick, **asked)
    images = data.load(context.dataset, "test", data_dir=context.data_dir, limit=plan.clean)
    found = run(Protocol(model, images, plan, max_rejected=MAX_REJECTED), without=("transfer", "simple curves", "page"))
    kept = ("clean", "curves", "harmless", "checks", "verdict")
    return {key: found[key] for key in kept} | {"compared": plan.compared, "reached": plan.l2[-1]}


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One system, by its name; on both of its bases.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of a search; those of `td.report`.", min=1)] = None,
):
    if only and context.output.resolve() == results.RESULTS:
        raise ValueError("`--only` is a part of the board and must not take its place. Name another folder with `--output`.")
    setup = SETUPS[context.dataset]
    number = context.samples_or(100, 16)
    context.settings.update(samples=number, steps=steps or "as td.report", max_rejected=MAX_REJECTED, vectors=VECTORS)
    context.settings["joined bases"] = (
        "trained with a dustbin class and reverse cross-entropy; under RCE alone the dustbin rejects nothing"
    )
    samples, found = Samples(context, setup), {}
    for system, base in context.turn(entries(context.quick, only)):
        name = f"{system.name}, {BASES[base]}"
        model = context.model(f"model {name}", build, context, setup, system, base, samples)
        found[name] = system, base, context.part(name, measure, context, model, number, steps)
    add_rows(context, found, number)


def place(measured):
    """What the order follows from: the l2 size at which half are fooled, then how many hold at the sizes tried.

    Nothing can hold at the last size: where half stand there the attack has failed, which is no rank before the others.
    """
    half = measured["verdict"]["halves"]["l2"]
    return (-1.0 if half is None else half, np.mean(measured["curves"]["l2"]["aware"]["held"]))


def interval(measured, number):
    """Where the curve crosses the shares that so few samples cannot tell from a half: about 95 % of the sizes found lie between."""
    from tfdefense.reporting.checks import half

    curve, start = measured["curves"]["l2"]["aware"], 1 - measured["clean"]["wrong"]
    ends = [half(curve["sizes"], curve["held"], start, 0.5 + side * 0.98 / number**0.5) for side in (1, -1)]
    return " to ".join(f"beyond {curve['sizes'][-1]:g}" if end is None else f"{end:.2f}" for end in ends)


def add_rows(context, found, number):
    context.headings.update(HEADINGS)
    ordered = sorted(found.items(), key=lambda item: place(item[1][2]), reverse=True)
    for rank, (name, (system, base, measured)) in enumerate(ordered, 1):
        clean, verdict = measured["clean"], measured["verdict"]
        held, rejected = {}, {}
        for norm, size in measured["compared"].items():
            curve = measured["curves"][norm]["aware"]
            at = curve["sizes"].index(size)
            held[f"{norm} {size:g}"], rejected[f"{norm} {size:g}"] = curve["held"][at], curve["rejected"][at]
        loud = max(row["rejected"] for row in measured["harmless"])
        beaten = verdict["halves"]["l2"] is not None
        notes = [] if beaten else [f"half stand at l2 {measured['reached']:g}, where nothing can: the attack failed, no rank"]
        notes += [f"checks that failed: {'; '.join(verdict['failed'])}"] if verdict["failed"] else []
        context.row(
            "ranking",
            system.name,
            verdict["halves"]["l2"],
            samples=number,
            note=". ".join(notes),
            rank=rank if beaten else None,
            between=interval(measured, number),
            base=BASES[base],
            **{"clean right": clean["right"], "clean rejected": clean["rejected"]},
            **{f"not fooled at {at}": share for at, share in held.items()},
            **{f"of these rejected at {at}": share for at, share in rejected.items()},
            **{"half fooled at linf": verdict["halves"].get("linf"), "most harmless rejected": loud},
        )
        curve = measured["curves"]["l2"]["aware"]
        context.curve("ranking", name, [0, *curve["sizes"]], [1 - clean["wrong"], *curve["held"]])
        if system.name == "dustbin" and base == 2 and "linf" in measured["compared"]:
            at = f"linf {measured['compared']['linf']:g}"
            note = "the strongest of all attacks for each sample; trained with reverse cross-entropy, threshold at 5 %"
            context.row("O9", f"dustbin under white-box attacks: not fooled at {at}", held[at], samples=number, note=note)
