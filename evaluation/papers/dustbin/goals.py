"""The dustbin class."""

from evaluation.runner.goals.goal import Goal, row


def _augmented(what):
    return lambda of: of[f"{what}, +out-distribution +interpolated"]


def _deepfool(network, choose):
    """The average error over the attacks, of the two forms of DeepFool."""
    forms = ("DeepFool", "DeepFool, longer")
    return lambda of: choose(of[f"average error over the attacks, {form}, {network}"] for form in forms)


_dearer = Goal(
    "clean accuracy, naive less both additions", lambda of: of["clean accuracy, naive"] - _augmented("clean accuracy")(of)
)
_worse = Goal("average error, both additions, the worse form of DeepFool", _deepfool("+out-distribution +interpolated", max))
_kinder = Goal("average error, naive, the kinder form of DeepFool", _deepfool("naive", min))
_QUIETER = "goal met: under 10% of sign 0.1 rejected, black-box error under 10%"


def _easier_to_mislead(of):
    """Of the network that was chosen for what it makes of noise, less of the naive one."""
    start, others = "error, PGD linf 0.1, the strongest of all, ", ("naive", "+out-distribution", "+out-distribution +interpolated")
    (error,) = (value for what, value in of.items() if what.startswith(start) and what.removeprefix(start) not in others)
    return error - of[f"{start}naive"]


_easier = Goal(
    "white-box error at linf 0.1, the strongest: the network with the best change against noise less naive",
    _easier_to_mislead,
    remark="what it was taught not to reject is where an attacker who knows the dustbin hides",
)


def _dustbin_known(*sizes, noise):
    """Attackers who know of the dustbin, and what it rejects of noise."""
    error, nearest = "error, PGD linf {:g}, the strongest of all, {}".format, "median l2, white-box C&W"
    return [
        Goal(
            "median l2 of white-box C&W, both additions less naive",
            lambda of: _augmented(nearest)(of) - of[f"{nearest}, naive"],
            remark="below 0, what misleads lies nearer than without a dustbin",
        ),
        *(
            Goal(
                f"white-box error at linf {size:g}, the strongest, naive less both additions",
                lambda of, size=size: of[error(size, "naive")] - of[error(size, "+out-distribution +interpolated")],
            )
            for size in sizes
        ),
        Goal(f"{noise} rejected, both additions", _augmented(f"rejected, harmless change: {noise}")),
    ]


GOALS = {
    ("dustbin", "mnist"): [
        Goal("clean accuracy, both additions", _augmented("clean accuracy"), least=0.99),
        _dearer._replace(most=0.005),
        Goal("held-back letters rejected", _augmented("held-back notmnist rejected"), least=0.995),
        row("held-back notmnist rejected, dustbin trained on letters"),
        _worse._replace(most=0.04),
        _kinder._replace(least=0.5),
        *_dustbin_known(0.1, 0.2, noise="sign 0.1"),
        _easier,
        Goal("the goal on harmless noise, met by one of the changes", lambda of: float(of[_QUIETER]), least=1.0),
        Goal("the same, trained again with another seed", lambda of: float(of[f"{_QUIETER}, trained again with another seed"])),
        Goal("the same, by one that never saw noise", lambda of: float(of[f"{_QUIETER}, by one that never saw noise"])),
    ],
    ("dustbin", "cifar10"): [
        Goal("clean accuracy, both additions", _augmented("clean accuracy")),
        _dearer,
        Goal("held-back images of CIFAR-100 rejected", _augmented("held-back cifar100_out_small rejected")),
        _worse,
        _kinder,
        *_dustbin_known(0.01, 0.03, noise="sign 0.03"),
    ],
}
