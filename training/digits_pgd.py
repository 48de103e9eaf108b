"""The digits network trained against PGD in l2; small enough for a test.

Command: python -m training digits_pgd
Cost: about a minute on 2 CPU cores.
Expected: test accuracy above 0.95.
"""

import dataclasses

from training import digits

RECIPE = dataclasses.replace(
    digits.RECIPE,
    optimizer_options={"learning_rate": 3e-3},
    decay=True,
    attack={"norm": "l2", "epsilon": 0.75, "steps": 5, "random_start": True},
)
