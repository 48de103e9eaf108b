"""MNIST on a residual network with cross-entropy (PAPERS.md, row R8).

Command: python -m training mnist_resnet_ce            (other depths: --depth 20)
Cost: about 2.5 minutes an epoch at depth 14, 6.5 at depth 20, on 2 CPU cores.
Expected: test accuracy 0.995 after 6 epochs at depth 14.

The settings are those of `mnist_resnet_rce` but for the loss. Adam, where the paper has SGD: the gradient of reverse
cross-entropy is classes - 1 times smaller, so that with SGD one learning rate for both is not the same training. Adam's
step does not depend on the size of the gradient. Weight decay is apart from the loss (AdamW) for the same reason.

MNIST on a residual network with reverse cross-entropy (PAPERS.md, row R8).

Command: python -m training mnist_resnet_rce            (other depths: --depth 20)
Cost: about 2.5 minutes an epoch at depth 14, 6.5 at depth 20, on 2 CPU cores.
Expected: test accuracy 0.996 after 6 epochs at depth 14.

Every setting is that of `mnist_resnet_ce` but the loss; its docstring says why the optimizer is Adam.
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
