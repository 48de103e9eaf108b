"""MNIST on the Carlini CNN, as Deep Neural Rejection trains it (paper row N6), with fewer epochs.

Command: python -m training mnist_carlini            (the paper's length: --epochs 50)
Cost: about 1 minute an epoch on 2 free CPU cores.
Expected: test accuracy 0.992 after 5 epochs.

Learning rate 0.1 with momentum 0.9, batch 128 and dropout 0.5 are the paper's; the rise over the first steps is not:
without it this rate can leave the network at chance for good.

The Carlini CNN on 30,000 samples of MNIST, the network that Deep Neural Rejection defends (paper row N6).

Command: python -m training mnist_dnr            (the paper's length: --epochs 50)
Cost: about half a minute an epoch on 2 free CPU cores.
Expected: test accuracy 0.988 after 8 epochs.

The other 30,000 training samples stay unseen: from them come the 10,000 that the SVMs are fitted on.

The network that Deep Neural Rejection defends, trained against PGD in l2: the yardstick for every defense of it.

Command: python -m training mnist_dnr_pgd
Cost: half a minute to 2.5 minutes an epoch on 2 free CPU cores.
Expected: test accuracy 0.987; robust accuracy on 300 test samples 0.73 at l2 2 in the worst case over the attacks of `dnr_trained`.

The size of 2 is the one at which rows N5 and N8 are compared. Adam with a falling rate: the paper has no setting to follow.
"""

import dataclasses

from training.recipe import Recipe

mnist_carlini = Recipe(
    dataset="mnist",
    model="carlini:carlini_cnn",
    model_options={"dropout": 0.5},
    epochs=5,
    batch_size=128,
    optimizer="SGD",
    optimizer_options={"learning_rate": 0.1, "momentum": 0.9},
    warmup_steps=200,
)

mnist_dnr = dataclasses.replace(mnist_carlini, epochs=8, train_samples=30_000)

mnist_dnr_pgd = dataclasses.replace(
    mnist_dnr,
    epochs=10,
    optimizer="Adam",
    optimizer_options={"learning_rate": 1e-3},
    warmup_steps=200,
    decay=True,
    attack={"norm": "l2", "epsilon": 2.0, "steps": 5, "random_start": True},
)
