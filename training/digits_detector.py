"""A detector branch on the digits network, trained against the dynamic adversary; small enough for a test.

Command: python -m training digits_detector
Cost: about a minute on 2 CPU cores.
Expected: detectability 0.73 under the adversary that it learns from, 1.00 under BIM, which does not know it; there
0.5 % false positives.
"""

import dataclasses

from training import digits, mnist_detector

RECIPE = dataclasses.replace(
    mnist_detector.RECIPE,
    dataset="digits",
    model=digits.RECIPE.model,
    epochs=40,
    optimizer_options={"learning_rate": 3e-3, "beta_1": 0.9},
    batch_size=64,
    train_samples=None,
    attack={"epsilon": 0.2, "steps": 5},
    # With harmless noise labelled clean as well, so small a branch on so few samples learns nothing in this time.
    harmless={},
    watched={"recipe": "digits", "layer": "conv_1", "width": 16},
)
