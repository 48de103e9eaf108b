"""scikit-learn's 8x8 digits on a small network.

Command: python -m training digits
Cost: about 10 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.

The digits network trained against PGD in l2; small enough for a test.

Command: python -m training digits_pgd
Cost: about a minute on 2 CPU cores.
Expected: test accuracy above 0.95.

The digits network with Gaussian noise in place of an attack, for `td.Smoothed`.

Command: python -m training digits_noise
Cost: about 10 seconds on 2 CPU cores.
Expected: not measured yet.

The digits network by confidence-calibrated adversarial training.

Command: python -m training digits_ccat
Cost: about a minute on 2 CPU cores.
Expected: not measured yet.

The digits network against PGD as `digits_pgd`, together with the head of `td.RectifiedRejection`.

Command: python -m training digits_rectified
Cost: about a minute on 2 CPU cores.
Expected: not measured yet.
"""

import dataclasses

from training.recipe import Recipe

digits = Recipe(dataset="digits", model="small:digits_cnn", epochs=20, batch_size=64)

digits_pgd = dataclasses.replace(
    digits,
    optimizer_options={"learning_rate": 3e-3},
    decay=True,
    attack={"norm": "l2", "epsilon": 0.75, "steps": 5, "random_start": True},
)

digits_noise = dataclasses.replace(digits, noise=0.25)

digits_ccat = dataclasses.replace(
    digits_pgd,
    attack={"norm": "linf", "epsilon": 0.3, "steps": 5, "random_start": True},
    attack_share=0.5,
    rejection="ccat",
)

digits_rectified = dataclasses.replace(digits_pgd, rejection="rectified", rejection_options={"width": 32})
