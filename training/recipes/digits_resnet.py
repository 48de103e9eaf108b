"""scikit-learn's 8x8 digits on a residual network with cross-entropy (paper row R8).

Command: python -m training digits_resnet_ce            (other depths: --depth 20)
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.

The settings are those of `digits_resnet_rce` but for the loss. Adam, where the paper has SGD: the gradient of reverse
cross-entropy is classes - 1 times smaller, so that with SGD one learning rate for both is not the same training. Adam's
step does not depend on the size of the gradient. Weight decay is apart from the loss (AdamW) for the same reason.

scikit-learn's 8x8 digits on a residual network with reverse cross-entropy (paper row R8).

Command: python -m training digits_resnet_rce            (other depths: --depth 20)
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.

Every setting is that of `digits_resnet_ce` but the loss; its docstring says why the optimizer is Adam.

scikit-learn's 8x8 digits on a residual network with label smoothing (equations 2 and 3 of the paper).

Command: python -m training digits_resnet_ls
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.

scikit-learn's 8x8 digits on a residual network by SGD, with cross-entropy: what `mnist_resnet_ce_sgd` is, in short.

Command: python -m training digits_resnet_ce_sgd
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: not measured yet.

scikit-learn's 8x8 digits on a residual network by SGD, with reverse cross-entropy.

Command: python -m training digits_resnet_rce_sgd
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: not measured yet.

Every setting is that of `digits_resnet_ce_sgd` but the loss.
"""

import dataclasses

from training.recipe import Recipe

digits_resnet_ce = Recipe(
    dataset="digits",
    model="resnet:resnet",
    model_options={"input_shape": (8, 8, 1), "depth": 8},
    epochs=20,
    batch_size=64,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.02},
    decay=True,
)

digits_resnet_rce = dataclasses.replace(digits_resnet_ce, loss="reverse_cross_entropy")

digits_resnet_ls = dataclasses.replace(digits_resnet_ce, loss="smoothed_cross_entropy", loss_options={"weight": 0.1})

digits_resnet_ce_sgd = dataclasses.replace(
    digits_resnet_ce,
    model_options={"input_shape": (8, 8, 1), "depth": 8, "l2": 1e-4},
    optimizer="SGD",
    optimizer_options={"learning_rate": 0.1, "momentum": 0.9},
    decay=False,
    drops=(1 / 2, 3 / 4),
)

digits_resnet_rce_sgd = dataclasses.replace(digits_resnet_ce_sgd, loss="reverse_cross_entropy")
