"""The board: every defense and combination, on a plain and on an adversarially trained base, against the same attacker.

All share one architecture and its training digits; how each base was trained stands in the settings. Each is calibrated as a
whole to the same share of rejected clean samples, on samples that no part of it has seen. Against each the same searches run
from all starts, with the attack that its authors would use, and the worst case over them counts for each sample. The order is
that of the median l2 distance.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.board.measure import add_rows
from evaluation.runner import results

DATASETS = ("mnist", "digits")
MAX_REJECTED, CALIBRATES = 0.05, 2000


@dataclass(frozen=True)
class Setup:
    """What the protocol does on one data set.

    Args:
        recipes: Of the bases: plain, trained against PGD, with a dustbin and reverse cross-entropy, and that against PGD too.
        settings: Of all recipes.
        seen: Training samples that the networks have seen. Of the others the first 2,000 calibrate.
        fitted: So many samples defenses are fitted on.
        unseen: Whether these are others than the networks have seen and than calibrate, as the papers' SVMs want.
        layers, codes, branch: Watched by Deep Neural Rejection, by SafetyNet and by the detector branch.
        attacked: Size in linf of the attacks that detectors are trained on.
        sizes: In each norm, in place of those of `td.report`: finer where the best are to be told apart.
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
    sizes: dict


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
        sizes={"linf": (0.1, 0.2, 0.3, 0.5), "l2": (0.5, 1, 1.5, 2, 2.5, 3, 4, 6)},
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
        sizes={},
    ),
}
VECTORS = 300


@dataclass(frozen=True)
class Base:
    """How a classifier was trained: with a dustbin and reverse cross-entropy, or plainly; against PGD, or on clean samples."""

    name: str
    joined: bool
    adversarial: bool


BASES = (
    Base("clean", False, False),
    Base("adversarially trained", False, True),
    Base("jointly trained", True, False),
    Base("jointly and adversarially trained", True, True),
)


@dataclass(frozen=True)
class System:
    """A defense on a kind of base; `make(td, setup)` gives it, None leaves the base as it is.

    A joined base without its `dustbin` is a classifier like the others, which was trained in another way. Of several defenses it is
    `combined`; what is `slow` is measured first.
    """

    name: str
    joined: bool
    make: Callable | None
    dustbin: bool = False
    combined: bool = False
    slow: bool = False


def _dnr(td, setup):
    return td.DeepNeuralRejection(setup.layers)


def _codes(td, setup):
    return td.SafetyNet(setup.codes)


def _dustbin(td):
    return td.DustbinDefense(threshold=None)


# Bandwidths of the paper, after cross-entropy and after reverse cross-entropy.
_SIGMA, _SIGMA_RCE = (1 / 0.26) ** 0.5, (0.1 / 0.26) ** 0.5
SYSTEMS = (
    System("no defense", False, None),
    System("confidence", False, lambda td, setup: td.ThresholdDefense("confidence")),
    System("NR", False, lambda td, setup: td.NeuralRejection()),
    System("DNR", False, _dnr),
    System("K-density", False, lambda td, setup: td.DensityDefense(_SIGMA)),
    System("SafetyNet", False, _codes, slow=True),
    System("detector branch", False, lambda td, setup: td.AdversaryDetector(setup.branch, width=16, seed=0), slow=True),
    # The class is that of the first: SVMs that disagree with the network would else reject nothing for it.
    System("DNR + confidence", False, lambda td, setup: td.AnyOf(_dnr(td, setup), td.ThresholdDefense()), combined=True),
    System("DNR + K-density", False, lambda td, setup: td.AnyOf(_dnr(td, setup), td.DensityDefense(_SIGMA)), combined=True),
    System("DNR + SafetyNet", False, lambda td, setup: td.AnyOf(_dnr(td, setup), _codes(td, setup)), combined=True, slow=True),
    System("no defense", True, None),
    System("confidence", True, lambda td, setup: td.ThresholdDefense("confidence")),
    System("RCE", True, lambda td, setup: td.DensityDefense(_SIGMA_RCE)),
    System("dustbin", True, lambda td, setup: _dustbin(td), dustbin=True),
    System(
        "RCE + dustbin", True, lambda td, setup: td.AnyOf(_dustbin(td), td.DensityDefense(_SIGMA_RCE)), dustbin=True, combined=True
    ),
    System("DNR + dustbin", True, lambda td, setup: td.AnyOf(_dnr(td, setup), _dustbin(td)), dustbin=True, combined=True),
    System(
        "DNR + RCE + dustbin",
        True,
        lambda td, setup: td.AnyOf(_dnr(td, setup), td.DensityDefense(_SIGMA_RCE), _dustbin(td)),
        dustbin=True,
        combined=True,
    ),
    System(
        "RCE + dustbin + SafetyNet",
        True,
        lambda td, setup: td.AnyOf(_dustbin(td), td.DensityDefense(_SIGMA_RCE), _codes(td, setup)),
        dustbin=True,
        combined=True,
        slow=True,
    ),
)
_QUICK = ("no defense", "confidence", "K-density", "RCE + dustbin")


def entries(quick, only):
    """Pairs of a system and the number of its base."""
    systems = [s for s in SYSTEMS if (only is None or s.name == only) and (not quick or only is not None or s.name in _QUICK)]
    if not systems:
        raise ValueError(f"`--only` must be one of {', '.join(s.name for s in SYSTEMS)}. Received {only!r}.")
    return [(system, number) for system in systems for number, base in enumerate(BASES) if base.joined == system.joined]


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
    if system.joined and not system.dustbin:
        network = keras.Model(network.inputs[0], network.outputs[0][:, :-1], name=network.name)
    if system.make is None:
        return network
    fitting = Fitting(setup.attacked, 0 if context.quick else 150_000, 1e-3, VECTORS, max_rejected=MAX_REJECTED)
    return fitting.fit(system.make(td, setup).attach(network), samples.fitted, samples.held_out, samples.others)


def measure(context, model, plan):
    """The protocol of `td.report`, but for the parts that no rank follows from; what was found on each sample with it."""
    from tfdefense import data
    from tfdefense.reporting.protocol import Protocol, run

    images = data.load(context.dataset, "test", data_dir=context.data_dir, limit=plan.clean)
    ood = {name: data.load(name, "test", data_dir=context.data_dir, limit=plan.clean).x for name in plan.ood[:1]}
    protocol = Protocol(model, images, plan, ood=ood, max_rejected=MAX_REJECTED, suite="board-1")
    found = run(protocol, without=("oblivious curve", "undefended curve", "page"))
    kept = ("clean", "curves", "benign", "ood", "attacks", "harder", "only", "left_out", "checks", "verdict")
    evidence = protocol.evidence
    names = (*(attacker.name for attacker in protocol.suite.attackers), None)
    each = {
        norm: {
            "distance": [float(value) if np.isfinite(value) else None for value in evidence.nearest[norm]],
            "found by": [names[number] for number in evidence.finder[norm]],
        }
        for norm in plan.norms
    }
    return {key: found[key] for key in kept} | {"each": each, "compared": plan.compared, "sizes": plan.l2}


def described(path):
    """A trained network in words, by what it was trained with."""
    config = json.loads((path.parent / "config.json").read_text())
    words = [path.parent.name, config["optimizer"], f"{config['epochs']} epochs", config["loss"].replace("_", " ")]
    words += ["with a dustbin"] if config["dustbin"] else []
    words += ["against PGD"] if config["attack"] else []
    return ", ".join([*words, f"test accuracy {config['test_accuracy']}"])


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One system, by its name; on all of its bases.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of a search; those of `td.report`.", min=1)] = None,
):
    from tfdefense import data
    from tfdefense.reporting.plan import plan_for

    if only and context.output.resolve() == results.RESULTS:
        raise ValueError("`--only` is a part of the board and must not take its place. Name another folder with `--output`.")
    setup, chosen = SETUPS[context.dataset], entries(context.quick, only)
    test = data.load(context.dataset, "test", data_dir=context.data_dir, limit=10)
    asked = {"samples": context.samples_or(200, 16), "steps": steps, "substitute": (0, 0), "clean": 400 if context.quick else 2000}
    plan = plan_for(context.dataset, test.x.shape[1:], quick=context.quick, **asked | ({} if context.quick else setup.sizes))
    networks = {base: context.network(setup.recipes[base], **setup.settings) for base in sorted({base for _, base in chosen})}
    context.settings.update({f"base, {BASES[base].name}": described(networks[base]) for base in networks})
    context.settings.update(
        searches=f"{plan.steps} steps, {plan.restarts} random start beside the others; Carlini-Wagner {plan.refine[1]} rounds of "
        f"{plan.refine[0]} steps; {plan.queries} queries; no transferred attack",
        sizes=f"linf {', '.join(map(str, plan.linf))}; l2 {', '.join(map(str, plan.l2))}",
        fitted=f"{setup.fitted} samples; detectors on attacks of linf {setup.attacked}",
        calibrated=f"at most {CALIBRATES} held-out samples, {MAX_REJECTED} of them rejected; several thresholds get one rate",
        machines=f"those of NR and DNR compressed to {VECTORS} vectors",
        bandwidth="of densities the paper's",
        samples=plan.samples,
    )
    # What takes longest first: nobody waits for it at the end.
    chosen = sorted(chosen, key=lambda entry: not entry[0].slow)
    parts = {f"{system.name}, {BASES[base].name}": (measured, context, system.name, base, plan) for system, base in chosen}
    keys = [(system, BASES[base]) for system, base in chosen]
    found = dict(zip(keys, context.parts(parts).values(), strict=True))
    add_rows(context, found, plan.samples)


def measured(context, name, base, plan):
    """Builds a system on a base and measures it."""
    setup = SETUPS[context.dataset]
    system = next(one for one in SYSTEMS if one.name == name and one.joined == BASES[base].joined)
    about = f"model {name}, {BASES[base].name}"
    model = context.model(about, build, context, setup, system, base, Samples(context, setup))
    return measure(context, model, plan)
