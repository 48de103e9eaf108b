"""MNIST on a residual network with cross-entropy (paper row R8).

Command: python -m training mnist_resnet_ce            (other depths: --depth 20)
Cost: about 2.5 minutes an epoch at depth 14, 6.5 at depth 20, on 2 CPU cores.
Expected: test accuracy 0.995 after 6 epochs at depth 14.

The settings are those of `mnist_resnet_rce` but for the loss. Adam, where the paper has SGD: the gradient of reverse
cross-entropy is classes - 1 times smaller, so that with SGD one learning rate for both is not the same training. Adam's
step does not depend on the size of the gradient. Weight decay is apart from the loss (AdamW) for the same reason.

MNIST on a residual network with reverse cross-entropy (paper row R8).

Command: python -m training mnist_resnet_rce            (other depths: --depth 20)
Cost: about 2.5 minutes an epoch at depth 14, 6.5 at depth 20, on 2 CPU cores.
Expected: test accuracy 0.996 after 6 epochs at depth 14.

Every setting is that of `mnist_resnet_ce` but the loss; its docstring says why the optimizer is Adam.

MNIST on a residual network with label smoothing, reverse cross-entropy's rival (equations 2 and 3 of the paper).

Command: python -m training mnist_resnet_ls
Cost: that of `mnist_resnet_ce`.
Expected: not measured yet.

The paper names no lambda. 0.1 aims at 0.91 for the true class, about as much as is usual. All else is that of `mnist_resnet_ce`.

MNIST on ResNet-32 by the paper's schedule, with cross-entropy: for `rce_paper`.

Command: python -m training mnist_resnet_ce_sgd            (ResNet-56: --depth 56)
Cost: 2 to 4.5 hours on 2 CPU cores by their pace; 4 to 8 at depth 56.
Expected: not measured yet; the paper has 0.9962.

20,000 steps of SGD with momentum, a rate of 0.1 that falls to a tenth after 10,000 and 15,000, and L2, both losses alike: the paper
says "the same settings as He et al."; steps and rates are those of the authors' code. 43 epochs are 20,124 steps.

MNIST on ResNet-32 by the paper's schedule, with reverse cross-entropy: for `rce_paper`.

Command: python -m training mnist_resnet_rce_sgd            (ResNet-56: --depth 56)
Cost: that of `mnist_resnet_ce_sgd`.
Expected: not measured yet; the paper has 0.9971.

Every setting is that of `mnist_resnet_ce_sgd` but the loss.
"""

import dataclasses

from training.recipe import Recipe

mnist_resnet_ce = Recipe(
    dataset="mnist",
    model="resnet:resnet",
    model_options={"input_shape": (28, 28, 1), "depth": 14},
    epochs=6,
    batch_size=128,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.02},
    decay=True,
)

mnist_resnet_rce = dataclasses.replace(mnist_resnet_ce, loss="reverse_cross_entropy")

mnist_resnet_ls = dataclasses.replace(mnist_resnet_ce, loss="smoothed_cross_entropy", loss_options={"weight": 0.1})

mnist_resnet_ce_sgd = dataclasses.replace(
    mnist_resnet_ce,
    model_options={"input_shape": (28, 28, 1), "depth": 32, "l2": 1e-4},
    epochs=43,
    optimizer="SGD",
    optimizer_options={"learning_rate": 0.1, "momentum": 0.9},
    decay=False,
    drops=(1 / 2, 3 / 4),
)

mnist_resnet_rce_sgd = dataclasses.replace(mnist_resnet_ce_sgd, loss="reverse_cross_entropy")
