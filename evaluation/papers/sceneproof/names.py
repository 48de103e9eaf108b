"""Names of systems, attacks and columns, as the tables of the paper have them."""

from evaluation.papers.detector.settings import BRANCH

LAYERS = {"Det A": ("fc7",), "Det B": ("fc6",), "Det C": ("pool5",), "Det ABC": ("fc7", "fc6", "pool5")}
EVERY = ("plain", BRANCH, *LAYERS)
SYSTEMS = ("plain", BRANCH, "Det A", "Det ABC")  # those that are attacked
# At the end of the name of one with the paper's own rule in place of a threshold that rejects a share of real pairs.
ZERO = ", f(c) > 0"
AT_ZERO = tuple(f"{system}{ZERO}" for system in SYSTEMS if system != "plain")
RATES = ("F->T", "T->F", "T->T rejected")
_RESNET = "transfer from a ResNet"
TYPE_ONE = ("type I", "type I transfer, fast sign", f"type I {_RESNET}, gradient", f"type I {_RESNET}, fast sign")
TYPE_TWO = ("type II", "type II transfer, fine-tuned", "type II transfer, with a branch")
TYPE_TWO += (f"type II {_RESNET}, fine-tuned", f"type II {_RESNET}, with a branch")
FURTHER = ("type I transfer, gradient",)  # which the paper does not have, and no mean counts
WORST_CASE = "type II, worst case"
ATTACKS = (*TYPE_ONE, *FURTHER, *TYPE_TWO, WORST_CASE)
MEANS = {"type I": TYPE_ONE, "type II": TYPE_TWO, "type I transfers": TYPE_ONE[1:], "type II transfers": TYPE_TWO[1:]}
# Of tables 2 and 3, which have no C, the detector on pool5, alone.
COLUMNS = ("right", "B", "A", "A and B", "A or B", "A or B, of those taken for true", "C")


def knowledge(attack):
    """Type I knows the classifier alone, type II the detectors; a transfer has a network of its own."""
    return "black box" if "transfer" in attack else "oblivious" if attack == "type I" else "adaptive"


def of_rows(system):
    """System and threshold of its rows; those at the usual threshold have none."""
    return {"system": system.removesuffix(ZERO), "threshold": "0" if system.endswith(ZERO) else ""}


def source(attack):
    """The network that a transfer comes from, and what it is crafted on or how."""
    return "resnet" if _RESNET in attack else "other", attack.rpartition(", ")[2]
