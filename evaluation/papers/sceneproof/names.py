"""Names of systems, attacks and columns, as the tables of the paper have them."""

from evaluation.papers.detector.settings import BRANCH

LAYERS = {"Det A": ("fc7",), "Det B": ("fc6",), "Det C": ("pool5",), "Det ABC": ("fc7", "fc6", "pool5")}
EVERY = ("plain", BRANCH, *LAYERS)
SYSTEMS = ("plain", BRANCH, "Det A", "Det ABC")  # those that are attacked
RATES = ("F->T", "T->F", "T->T rejected")
TYPE_ONE = ("type I", "type I transfer, fast sign", "type I transfer, gradient")
TYPE_TWO = ("type II", "type II transfer, fine-tuned", "type II transfer, with a branch")
WORST_CASE = "type II, worst case"
ATTACKS = (*TYPE_ONE, *TYPE_TWO, WORST_CASE)
MEANS = {"type I": TYPE_ONE, "type II": TYPE_TWO, "type I transfers": TYPE_ONE[1:], "type II transfers": TYPE_TWO[1:]}
FAR = 8  # times the size of the other attacks, where nothing should stand
# Of tables 2 and 3, which have no C, the detector on pool5, alone.
COLUMNS = ("right", "B", "A", "A and B", "A or B", "A or B, of those taken for true", "C")


def knowledge(attack):
    """Type I knows the classifier alone, type II the detectors; a transfer has a network of its own."""
    return "black box" if "transfer" in attack else "oblivious" if attack == "type I" else "adaptive"
