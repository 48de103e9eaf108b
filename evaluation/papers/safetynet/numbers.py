"""The numbers that Lu et al. (2017) print in table 4, to stand beside ours; those on CIFAR-10 are in drawings alone (figures 2, 3).

They are of another task, two classes of RGBD pairs: the shares of fakes called real and of reals called fake that no
detector spots. So no row of ours has them as its paper's number.
"""

MODELS = ("plain", "branch", "Det A", "Det A or B or C")
TYPE_ONE = ((0.328, 0.553), (0.134, 0.095), (0.099, 0.050), (0.084, 0.003))
TYPE_TWO = ((0.328, 0.553), (0.263, 0.219), (0.163, 0.037), (0.132, 0.026))
# Of reals that nobody attacked, the share that is rejected.
REJECTED = ((), (0.102,), (0.094,), (0.099,))
# From a network of another architecture; then from two of the same one, as ours are: tuned, and with a branch.
TRANSFER = (
    ((0.289, 0.367), (0.153, 0.224), (0.036, 0.134), (0.027, 0.119)),
    ((0.2, 0.031), (0.171, 0.0), (0.172, 0.0), (0.172, 0.0)),
    ((0.163, 0.006), (0.137, 0.0), (0.103, 0.0), (0.091, 0.0)),
)
