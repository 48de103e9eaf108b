"""What SceneProof was meant to show."""

from evaluation.papers.sceneproof.names import BRANCH
from evaluation.runner.goals import Goal

_ADAPTIVE = (
    "a gradient that knows the detectors passes nearly as many forgeries whatever watches; the paper's network, large and "
    "pretrained, was harder to move"
)
_FEW_SCENES = (
    "325 scenes and no pretrained network: the paper's guesses are by Eigen et al. (2014), trained on 120,000 frames from "
    "features of ImageNet"
)


def _passed(attack, threshold=None):
    """How much the better of plain network and branch lets through that Det ABC does not."""

    def value(of):
        about = {"metric": "F->T", "attack": attack, "epsilon": of.settings["epsilon"], "pairs": None}
        rows = of.all(table="lu2017.table4", threshold=threshold, **about)
        if threshold is not None and not rows:
            return None  # Results of before that rule was measured.
        through = {row.system: row.value for row in (*rows, *of.all(table="lu2017.table4", system="plain", **about))}
        return min(through["plain"], through[BRANCH]) - through["Det ABC"]

    return value


def _better_than_the_median(of):
    """How many times the error of the depth network that of the median depth at each pixel is."""
    found = of.values("system", table="lu2017.ours.depth", metric="mean error")
    return found["median of the training depths"] / found["depth network"]


GOALS = {
    ("sceneproof", "nyu_depth_v2_small"): [
        Goal("clean accuracy, familiar forgeries", lambda of: of(table="lu2017.ours.clean", metric="accuracy"), least=0.85),
        Goal(
            "real pairs rejected, Det ABC",
            lambda of: of(table="lu2017.ours.clean", metric="rejection rate", system="Det ABC", label="real", threshold=None),
            most=0.15,
        ),
        *(
            Goal(f"F->T, {attack}: the better of plain and branch less Det ABC", _passed(attack), least=1e-6, remark=remark)
            for attack, remark in (
                ("type I", ""),
                ("type I, mean", ""),
                ("type II", _ADAPTIVE),
                ("type II, mean", "transfers are stopped as well as by the branch; an adaptive attack gets through"),
                ("any of these", _ADAPTIVE),
            )
        ),
        *(
            Goal(
                f"F->T, {attack}, f(c) > 0: the better of plain and branch less Det ABC",
                _passed(attack, "0"),
                least=1e-6,
                remark=why,
            )
            for attack, why in (
                ("type I", "the paper's rule, at which each rejects another share of real pairs"),
                ("type II", _ADAPTIVE),
            )
        ),
        Goal("error of the median depth over that of the depth network", _better_than_the_median, least=2, remark=_FEW_SCENES),
    ],
}
