"""The numbers that Lu et al. (2017) print in table 4, to stand beside ours; those on CIFAR-10 are in drawings alone (figures 2, 3).

They are of another task, two classes of RGBD pairs: the shares of fakes called real and of reals called fake that no
detector spots. So they go into the notes, not into a column of their own.
"""

_COLUMNS = ("plain", "branch", "Det A", "Det A or B or C")
TYPE_ONE = ((0.328, 0.553), (0.134, 0.095), (0.099, 0.050), (0.084, 0.003))
TYPE_TWO = ((0.328, 0.553), (0.263, 0.219), (0.163, 0.037), (0.132, 0.026))
# Of reals and fakes that nobody attacked, the share that is rejected.
REJECTED = {"branch": 0.102, "Det A": 0.094, "Det A or B or C": 0.099}
# Attacks from a network of another architecture; then from two of the same one, as ours are.
TRANSFER = {
    "another network": ((0.289, 0.367), (0.153, 0.224), (0.036, 0.134), (0.027, 0.119)),
    "one tuned on its adversarial samples": ((0.2, 0.031), (0.171, 0.0), (0.172, 0.0), (0.172, 0.0)),
    "one with a branch": ((0.163, 0.006), (0.137, 0.0), (0.103, 0.0), (0.091, 0.0)),
}


def missed(table, guard):
    """In words what the paper has for that model, or nothing."""
    if guard not in _COLUMNS:
        return ""
    fakes, reals = table[_COLUMNS.index(guard)]
    return f"the paper, on SceneProof at a threshold of 0: {fakes:g} of fakes, {reals:g} of reals"
