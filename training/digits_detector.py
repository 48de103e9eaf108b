"""A detector branch on the digits network, trained against the dynamic adversary; small enough for a test.

Command: python -m training digits_detector
Cost: about a minute on 2 CPU cores.
Expected: not measured yet.
"""

import dataclasses

from training import digits, mnist_detector

RECIPE = dataclasses.replace(
    mnist_detector.RECIPE,
    dataset="digits",
    model=digits.RECIPE.model,
    epochs=20,
    batch_size=64,
    train_samples=None,
    attack={"epsilon": 0.2, "steps": 5},
    harmless={"sign": 0.1},
    watched={"recipe": "digits", "layer": "conv_1", "width": 8},
)
