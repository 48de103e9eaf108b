"""What stands on the board: bases, defenses on them, why each is there, and what it is compared with."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Base:
    """How a classifier was trained: with a dustbin and reverse cross-entropy, or plainly; against PGD, or on clean samples."""

    name: str
    joined: bool
    adversarial: bool


CLEAN = Base("clean", False, False)
ADVERSARIAL = Base("adversarially trained", False, True)
JOINED = Base("jointly trained", True, False)
BOTH = Base("jointly and adversarially trained", True, True)
# Trained so that they learn when to be unsure.
CCAT = Base("confidence-calibrated", False, True)
RECTIFIED = Base("adversarially trained with a rectifier", False, True)
BASES = (CLEAN, ADVERSARIAL, JOINED, BOTH, CCAT, RECTIFIED)


@dataclass(frozen=True)
class Defense:
    """`make(td, setup)` gives it, None leaves the base as it is.

    A jointly trained base without its `dustbin` is a classifier like the others, which was trained in another way. Of several
    defenses it is `combined`; what is `slow` is measured first. What is `trained` comes with its base, which is a defended model.
    """

    make: Callable | None
    dustbin: bool = False
    combined: bool = False
    slow: bool = False
    trained: bool = False


def _dnr(td, setup):
    return td.DeepNeuralRejection(setup.layers)


def _dustbin(td):
    return td.DustbinDefense(threshold=None)


# Bandwidths of the paper, after cross-entropy and after reverse cross-entropy.
_SIGMA, _SIGMA_RCE = (1 / 0.26) ** 0.5, (0.1 / 0.26) ** 0.5
DEFENSES = {
    "no defense": Defense(None),
    "confidence": Defense(lambda td, setup: td.ThresholdDefense("confidence")),
    "DNR": Defense(_dnr),
    "K-density": Defense(lambda td, setup: td.DensityDefense(_SIGMA)),
    "SafetyNet": Defense(lambda td, setup: td.SafetyNet(setup.codes), slow=True),
    # Of the depth that its results were measured with; the paper has 3.
    "detector branch": Defense(lambda td, setup: td.AdversaryDetector(setup.branch, width=16, seed=0, depth=4), slow=True),
    # The norm is the one that the data set's order follows from.
    "CPR": Defense(lambda td, setup: td.ConsistencyRejection(norm=setup.around), slow=True),
    "first-order radius": Defense(lambda td, setup: td.RadiusRejection(setup.around), slow=True),
    "CPR + confidence": Defense(
        lambda td, setup: td.AnyOf(td.ConsistencyRejection(norm=setup.around), td.ThresholdDefense()), combined=True, slow=True
    ),
    # The class is that of the first: SVMs that disagree with the network would else reject nothing for it.
    "DNR + confidence": Defense(lambda td, setup: td.AnyOf(_dnr(td, setup), td.ThresholdDefense()), combined=True),
    "rectified confidence": Defense(lambda td, setup: td.RectifiedRejection(), trained=True),
    "RCE": Defense(lambda td, setup: td.DensityDefense(_SIGMA_RCE)),
    "dustbin": Defense(lambda td, setup: _dustbin(td), dustbin=True),
    "RCE + dustbin": Defense(lambda td, setup: td.AnyOf(_dustbin(td), td.DensityDefense(_SIGMA_RCE)), dustbin=True, combined=True),
}


@dataclass(frozen=True)
class System:
    """A defense on a base, and the system that its distance is compared with, fixed before anything is measured."""

    name: str
    base: Base
    over: tuple | None = None

    @property
    def key(self):
        return self.name, self.base.name

    @property
    def defense(self):
        return DEFENSES[self.name]


_YARDSTICK = ("confidence", ADVERSARIAL.name)
SYSTEMS = (
    # What training alone brings, and a threshold on the confidence, the yardstick of every other defense.
    System("no defense", CLEAN),
    System("no defense", ADVERSARIAL, ("no defense", CLEAN.name)),
    System("no defense", BOTH, ("no defense", ADVERSARIAL.name)),
    System("confidence", CLEAN, ("no defense", CLEAN.name)),
    System("confidence", ADVERSARIAL, ("no defense", ADVERSARIAL.name)),
    System("confidence", BOTH, ("no defense", BOTH.name)),
    # A defense as its paper has it, on a network that learned without attacks.
    System("DNR", CLEAN, ("confidence", CLEAN.name)),
    System("dustbin", JOINED, ("no defense", CLEAN.name)),
    # Every detector on the base that withstands most. On clean bases all of them end near no defense.
    System("DNR", ADVERSARIAL, _YARDSTICK),
    System("K-density", ADVERSARIAL, _YARDSTICK),
    System("SafetyNet", ADVERSARIAL, _YARDSTICK),
    System("detector branch", ADVERSARIAL, _YARDSTICK),
    System("RCE", BOTH, ("confidence", BOTH.name)),
    System("dustbin", BOTH, ("confidence", BOTH.name)),
    # Networks that were trained to reject, against what the training alone brings.
    System("no defense", RECTIFIED, ("no defense", ADVERSARIAL.name)),
    System("rectified confidence", RECTIFIED, _YARDSTICK),
    System("confidence", CCAT, _YARDSTICK),
    # What looks around the sample; made for networks that withstand.
    System("CPR", ADVERSARIAL, _YARDSTICK),
    System("first-order radius", ADVERSARIAL, _YARDSTICK),
    # Combinations, against the best that one of their parts alone could be.
    System("RCE + dustbin", BOTH, ("RCE", BOTH.name)),
    System("DNR + confidence", ADVERSARIAL, _YARDSTICK),
    System("CPR + confidence", ADVERSARIAL, ("CPR", ADVERSARIAL.name)),
)
_QUICK = ("no defense", "confidence", "K-density", "RCE + dustbin")


def entries(recipes, left_out, quick, only):
    """The systems whose base the data set has; of a quick run only some, with `only` those of one name."""
    known = [system for system in SYSTEMS if system.base.name in recipes and system.name not in left_out]
    chosen = [s for s in known if (only is None or s.name == only) and (not quick or only is not None or s.name in _QUICK)]
    if not chosen:
        raise ValueError(f"`--only` must be one of {', '.join(dict.fromkeys(s.name for s in known))}. Received {only!r}.")
    return chosen
