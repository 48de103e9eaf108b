"""A detector branch on the second convolution of `mnist_carlini`, trained against the dynamic adversary (paper row M7).

Command: python -m training mnist_detector
Cost: 19 minutes of CPU time, all cores together, after those of `mnist_carlini`.
Expected: detectability 0.85 under the adversary that it learns from, where 26 % of the clean samples, half of them with noise, are
rejected; without noise 1.00 and none, under BIM, which is oblivious.

It leaves the network with the branch on it, whose threshold is still to be set: `td.calibrate(model, x, max_rejected=0.05)`.

A detector branch on the digits network, trained against the dynamic adversary; small enough for a test.

Command: python -m training digits_detector
Cost: about a minute on 2 CPU cores.
Expected: detectability 0.73 under the adversary that it learns from, 1.00 under BIM, which is oblivious; there
the false-positive rate is 0.5 %.
"""

import dataclasses

from training.recipe import Recipe
from training.recipes.digits import digits
from training.recipes.mnist_carlini import mnist_carlini

mnist_detector = Recipe(
    dataset="mnist",
    model=mnist_carlini.model,
    epochs=5,
    optimizer_options={"learning_rate": 1e-3, "beta_1": 0.9},
    decay=True,
    train_samples=30_000,
    attack={"epsilon": 0.2, "steps": 10},
    attack_share=0.5,
    benign={"sign": 0.2, "gaussian": 0.1},
    watched={"recipe": "mnist_carlini", "layer": "conv_2", "width": 24, "depth": 4},
)

digits_detector = dataclasses.replace(
    mnist_detector,
    dataset="digits",
    model=digits.model,
    epochs=40,
    optimizer_options={"learning_rate": 3e-3, "beta_1": 0.9},
    batch_size=64,
    train_samples=None,
    attack={"epsilon": 0.2, "steps": 5},
    # With benign noise labelled clean as well, so small a branch on so few samples learns nothing in this time.
    benign={},
    watched={"recipe": "digits", "layer": "conv_1", "width": 16, "depth": 4},
)
