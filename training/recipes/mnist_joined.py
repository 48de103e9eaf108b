"""The Carlini CNN with a dustbin, trained with reverse cross-entropy: one network for three defenses (paper row O9).

Command: python -m training mnist_joined
Cost: 20 s an epoch on 2 free CPU cores, and `mnist_dnr` before, which gives the features.
Expected: test accuracy 0.989.

The samples are those of `mnist_dnr`; 7,000 letters and 9,000 samples between the classes go into the dustbin. Adam as in
`mnist_dnr_pgd`: the losses differ too much for the learning rate of plain SGD.

`mnist_joined`, trained against PGD in l2 as `mnist_dnr_pgd` is.

Command: python -m training mnist_joined_pgd
Cost: 80 s an epoch on 2 CPU cores, one of them busy.
Expected: test accuracy 0.985.
"""

import dataclasses

from training.recipes.mnist_carlini import mnist_dnr, mnist_dnr_pgd

mnist_joined = dataclasses.replace(
    mnist_dnr,
    optimizer="Adam",
    optimizer_options={"learning_rate": 1e-3},
    warmup_steps=0,
    decay=True,
    loss="reverse_cross_entropy",
    dustbin=({"set": "notmnist"}, {"interpolated": "mnist_dnr", "alpha": 0.5, "per_class": 900}),
)

mnist_joined_pgd = dataclasses.replace(
    mnist_joined, epochs=mnist_dnr_pgd.epochs, attack=mnist_dnr_pgd.attack, warmup_steps=mnist_dnr_pgd.warmup_steps
)
