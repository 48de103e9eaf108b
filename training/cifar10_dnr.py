"""The light CIFAR-10 network on 40,000 samples, as Deep Neural Rejection trains it (PAPERS.md, row N6), with fewer epochs.

Command: python -m training cifar10_dnr          (the paper's length: --epochs 75)
Cost: several minutes an epoch on 2 free CPU cores; an hour or two in all.
Expected: not measured yet.

Learning rate 0.01 with momentum 0.9 and batch 100 are the paper's. The other 10,000 training samples stay unseen: from
them come those that the machines are fitted on.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    dataset="cifar10",
    model="vgg_small:vgg_small",
    epochs=12,
    batch_size=100,
    optimizer="SGD",
    optimizer_options={"learning_rate": 0.01, "momentum": 0.9},
    train_samples=40_000,
)
