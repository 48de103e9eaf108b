"""The light CIFAR-10 network on 40,000 samples, as Deep Neural Rejection trains it (paper row N6), narrower and shorter.

Command: python -m training cifar10_dnr          (the paper's length: --epochs 75)
Cost: a quarter of a minute to a minute and a half an epoch on 2 free CPU cores.
Expected: test accuracy 0.763 after 20 epochs.

A quarter of the paper's filters: with all of them an epoch takes a quarter of an hour on such a machine, and every step of an
attack as much longer. `--width 64` is the paper's network. Learning rate 0.01 with momentum 0.9 and batch 100 are the paper's.
The other 10,000 training samples stay unseen: from them come those that the SVMs are fitted on.
"""

from training.recipe import Recipe

cifar10_dnr = Recipe(
    dataset="cifar10",
    model="vgg_small:vgg_small",
    model_options={"width": 16},
    epochs=20,
    batch_size=100,
    optimizer="SGD",
    optimizer_options={"learning_rate": 0.01, "momentum": 0.9},
    train_samples=40_000,
)
