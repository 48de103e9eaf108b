"""CIFAR-10 on a residual network with cross-entropy (PAPERS.md, row R8).

Command: python -m training cifar10_resnet_ce            (other depths: --depth 20)
Cost: 1 to 5.5 minutes an epoch at depth 14 on 2 CPU cores, by their pace.
Expected: 0.876; 0.749 at depth 8 after 10 epochs; the paper has 0.93 with ResNet-32 and 90,000 steps.

The settings are those of `cifar10_resnet_rce` but for the loss. Adam, where the paper has SGD: the gradient of reverse
cross-entropy is classes - 1 times smaller, so that with SGD one learning rate for both is not the same training. Adam's
step does not depend on the size of the gradient. Weight decay is apart from the loss (AdamW) for the same reason.

CIFAR-10 on a residual network with reverse cross-entropy (PAPERS.md, row R8).

Command: python -m training cifar10_resnet_rce            (other depths: --depth 20)
Cost: about 5.5 minutes an epoch at depth 14 on 2 CPU cores.
Expected: 0.716 at depth 8 after 10 epochs, deeper not measured; the paper has 0.93 with ResNet-32 and 90,000 steps.

Every setting is that of `cifar10_resnet_ce` but the loss; its docstring says why the optimizer is Adam.
"""

import dataclasses

from training.recipe import Recipe

cifar10_resnet_ce = Recipe(
    dataset="cifar10",
    model="resnet:resnet",
    model_options={"input_shape": (32, 32, 3), "depth": 14},
    epochs=30,
    batch_size=128,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.05},
    decay=True,
    augment=True,
)

cifar10_resnet_rce = dataclasses.replace(cifar10_resnet_ce, loss="reverse_cross_entropy")
