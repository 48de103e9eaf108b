"""What `dnr` and `dnr_trained` do on each data set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """What is fitted, and at which sizes it is attacked.

    Args:
        recipe, robust: Of the network, and of the adversarially trained one.
        layers: Watched by DNR; NR watches the output layer.
        unseen: Training samples from this one on are not among those that the network was trained on.
        fitted: Samples that the SVMs are fitted on.
        calibrated: Held-out samples that set the threshold.
        sizes: l2 sizes of the perturbation; a quick run takes every second one.
        ordered: Sizes from which to which the paper has DNR above NR above the plain network.
        rejecting: Sizes from which to which NR of the paper rejects more than DNR, where it says so.
        shown: l2 sizes of the adversarial examples that are drawn.
        compared: l2 size of the benign perturbation, and at which DNR with few support vectors is compared with all of them.
        trained_sizes: As `sizes`, for `dnr_trained`.
        trained: l2 size of the attacks in training.
        network: Settings of the recipe that are the paper's and not its own.
        searched: So many samples C and gamma are cross-validated on.
        grid: What is tried for them, as pairs; none is the library's own.
    """

    recipe: str
    layers: tuple
    unseen: int
    fitted: int
    calibrated: int
    max_rejected: float
    sizes: tuple
    ordered: tuple
    shown: tuple
    compared: float
    robust: str = ""
    trained_sizes: tuple = ()
    trained: float = 0.0
    network: tuple = ()
    rejecting: tuple = ()
    searched: int = 2_000
    grid: tuple = ()


PLANS = {
    "mnist": Plan(
        recipe="mnist_dnr",
        layers=("dense_1", "dense_2", "logits"),
        unseen=30_000,
        fitted=10_000,
        calibrated=2_000,
        max_rejected=0.05,
        sizes=(0, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8),
        ordered=(1.5, 4),
        rejecting=(1, 3),
        shown=(5, 7),
        compared=2,
        robust="mnist_dnr_pgd",
        trained_sizes=(0, 1.5, 2, 3, 8),
        trained=2,
        network=(("epochs", 50),),
    ),
    "cifar10": Plan(
        recipe="cifar10_dnr",
        layers=("pool_3", "norm_7", "logits"),
        unseen=40_000,
        fitted=8_000,
        calibrated=2_000,
        max_rejected=0.10,
        sizes=(0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 4),
        ordered=(0.2, 1),
        shown=(5, 10),
        compared=0.3,
        network=(("epochs", 75),),
    ),
    "digits": Plan(
        recipe="digits",
        layers=("conv_2", "dense_1", "logits"),
        unseen=0,
        fitted=1_000,
        calibrated=400,
        max_rejected=0.05,
        sizes=(0, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4),
        ordered=(0.5, 2),
        shown=(1, 2),
        compared=1,
        robust="digits_pgd",
        trained_sizes=(0, 0.5, 0.75, 1, 4),
        trained=0.75,
    ),
}
# Other layers than those of the paper.
LAYERS = {
    "mnist": {
        "one more": ("pool_2", "dense_1", "dense_2", "logits"),
        "two more": ("pool_1", "pool_2", "dense_1", "dense_2", "logits"),
        "earlier": ("pool_2", "dense_1"),
    },
    "digits": {
        "one more": ("conv_1", "conv_2", "dense_1", "logits"),
        "two more": ("conv_1", "conv_2", "pool_1", "dense_1", "logits"),
        "earlier": ("conv_1", "conv_2"),
    },
}
