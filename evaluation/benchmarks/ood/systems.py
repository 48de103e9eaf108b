"""What stands on the OOD board: every post-hoc score, the systems of the five papers as far as they fit to a trained network, and
scores that are joined. All but the detector branch work on the features of the last hidden layer, which are computed once."""

from collections.abc import Callable
from dataclasses import dataclass

from tfdefense._suggest import did_you_mean

SCORE, PAPER, JOINED = "post-hoc score", "system of a paper", "joined scores"


@dataclass(frozen=True)
class System:
    """`make(td, setup)` gives the defense.

    Args:
        kernels: Whether it is fitted on few samples, as kernels want.
        codes: Whether it learns from adversarial samples.
        on_images: Whether it watches an inner layer, so that it is attached to the whole network.
        dustbin: Whether one output more is trained first.
        fits: Whether it has anything to adapt.
    """

    name: str
    kind: str
    make: Callable
    kernels: bool = False
    codes: bool = False
    on_images: bool = False
    dustbin: bool = False
    fits: bool = True


def _score(name):
    def make(td, setup):
        return td.ThresholdDefense(name, **({"k": setup.k} if name == "knn" else {}))

    return make


def _any_of(*names):
    return lambda td, setup: td.AnyOf(*(_score(name)(td, setup) for name in names))


def _branch(td, setup):
    layer, form = setup.branch
    return td.AdversaryDetector(layer, form=form, width=16, seed=0)


def every():
    """All systems by name, in the order of the tables."""
    from tfdefense.layers.scores import POST_HOC, SCORES

    found = [System(name, SCORE, _score(name), fits=name not in (*SCORES, "ash", "scale")) for name in sorted(POST_HOC)]
    found += [
        System("energy or ViM", JOINED, _any_of("energy", "vim")),
        System("energy or KNN", JOINED, _any_of("energy", "knn")),
        System("DNR", PAPER, lambda td, setup: td.DeepNeuralRejection(("features", "logits")), kernels=True),
        System("K-density", PAPER, lambda td, setup: td.DensityDefense()),
        System("SafetyNet", PAPER, lambda td, setup: td.SafetyNet(("features",)), kernels=True, codes=True),
        System("detector branch", PAPER, _branch, on_images=True),
        System("dustbin", PAPER, lambda td, setup: td.DustbinDefense(threshold=None), dustbin=True, fits=False),
    ]
    return {system.name: system for system in found}


# What finds most on the others too: their attacked images are tried on every system.
LEADERS = ("energy", "knn")
_QUICK = ("confidence", "react", "vim", *LEADERS, "energy or ViM", "SafetyNet", "dustbin")


def entries(network, setup, quick, only):
    """The systems that fit to the network; of a quick run only some, with `only` that of one name."""
    known = every()
    layers = {layer.name for layer in network.layers}
    if only is not None:
        if only not in known:
            raise ValueError(f"`--only` must be one of {', '.join(known)}. Received {only!r}.{did_you_mean(only, known)}")
        if known[only].on_images and setup.branch[0] not in layers:
            raise ValueError(f"The {only} watches layer '{setup.branch[0]}'. The network '{network.name}' has none of that name.")
        return [known[only]]
    return [
        system
        for system in known.values()
        if (not quick or system.name in _QUICK) and (not system.on_images or setup.branch[0] in layers)
    ]
