"""`mnist_joined`, trained against PGD in l2 as `mnist_dnr_pgd` is.

Command: python -m training mnist_joined_pgd
Cost: 80 s an epoch on 2 CPU cores, one of them busy.
Expected: test accuracy 0.985.
"""

import dataclasses

from training import mnist_dnr_pgd, mnist_joined

_ATTACKED = mnist_dnr_pgd.RECIPE
RECIPE = dataclasses.replace(
    mnist_joined.RECIPE, epochs=_ATTACKED.epochs, attack=_ATTACKED.attack, warmup_steps=_ATTACKED.warmup_steps
)
