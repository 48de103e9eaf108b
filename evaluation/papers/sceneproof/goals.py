"""What SceneProof was meant to show."""

from evaluation.papers.sceneproof.names import BRANCH
from evaluation.runner.goals import Goal

_LEAST_CHANGE = (
    "a gradient that knows the detectors needs 1/255 of the depth, the least that a file can hold, "
    "to pass nearly all forgeries whatever watches; the paper's network, large and pretrained, was harder to move"
)


def _passed(attack):
    """How much the better of plain network and branch lets through that Det ABC does not."""

    def value(of):
        through = {
            row.system: row.value
            for row in of.all(table="lu2017.table4", metric="F->T", attack=attack, epsilon=of.settings["epsilon"], pairs=None)
        }
        return min(through["plain"], through[BRANCH]) - through["Det ABC"]

    return value


GOALS = {
    ("sceneproof", "nyu_depth_v2_small"): [
        Goal("clean accuracy, familiar forgeries", lambda of: of(table="lu2017.ours.clean", metric="accuracy"), least=0.85),
        Goal(
            "real pairs rejected, Det ABC",
            lambda of: of(table="lu2017.ours.clean", metric="rejection rate", system="Det ABC", label="real"),
            most=0.15,
        ),
        *(
            Goal(f"F->T, {attack}: the better of plain and branch less Det ABC", _passed(attack), least=1e-6, remark=remark)
            for attack, remark in (
                ("type I", ""),
                ("type I, mean", ""),
                ("type II", _LEAST_CHANGE),
                ("type II, mean", "transfers are stopped as well as by the branch; an adaptive attack gets through"),
                ("any of these", _LEAST_CHANGE),
            )
        ),
    ],
}
