"""SceneProof."""

from evaluation.runner.goals.goal import Goal

_LEAST_CHANGE = (
    "a gradient that knows the detectors needs 1/255 of the depth, the least that a file can hold, "
    "to pass nearly all forgeries whatever watches; the paper's network, large and pretrained, was harder to move"
)


def _forged_through(attack):
    """How much the better of plain network and branch lets through that Det ABC does not."""
    of_system = "F->T, {}, {}".format
    return lambda of: min(of[of_system(attack, name)] for name in ("plain", "branch")) - of[of_system(attack, "Det ABC")]


GOALS = {
    ("sceneproof", "nyu_depth_v2_small"): [
        Goal("clean accuracy, familiar forgeries", lambda of: of["clean accuracy"], least=0.85),
        Goal("real pairs rejected, Det ABC", lambda of: of["T rejected, no attack, Det ABC"], most=0.15),
        *(
            Goal(f"F->T, {attack}: the better of plain and branch less Det ABC", _forged_through(attack), least=1e-6, remark=remark)
            for attack, remark in (
                ("type I", ""),
                ("type I, mean", ""),
                ("type II", _LEAST_CHANGE),
                ("type II, mean", "transfers are stopped as well as by the branch, but who knows the detectors gets through"),
                ("any of these attacks", _LEAST_CHANGE),
            )
        ),
    ],
}
