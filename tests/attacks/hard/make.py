"""Makes the two digit models beside this file: `python -m tests.attacks.hard.make`, a minute on two cores.

Searches of many small steps fail on them, for they were trained against such searches: see `test_self_attack.py`.
"""

from pathlib import Path

import keras
import numpy as np

import tfdefense as td
from tests.conftest import small_cnn, trained

FOLDER = Path(__file__).parent
DUSTBIN, DETECTOR = FOLDER / "dustbin.keras", FOLDER / "detector.keras"
ROUNDS, EPOCHS, LEARNED = 6, 6, 0.02


def small_steps(epsilon, **options):
    return td.attacks.PGD(epsilon, steps=10, schedule="fixed", objective=td.attacks.LogSumExp(), **options)


def between_classes(samples, number, rng):
    first, second = rng.integers(0, len(samples.x), (2, number))
    first, second = (each[samples.y[first] != samples.y[second]] for each in (first, second))
    share = rng.uniform(0.25, 0.75, (len(first), 1, 1, 1)).astype("float32")
    return share * samples.x[first] + (1 - share) * samples.x[second]


def dustbin(digits, held_out):
    """In turn: a search finds what the network takes for a digit, and the network learns that this belongs into the dustbin."""
    keras.utils.set_random_seed(0)
    network = small_cnn(11, "dustbin")
    outside = [td.data.load("letters8", limit=700).x, between_classes(digits, 2000, np.random.default_rng(0))]
    for round in range(ROUNDS + 1):
        x = np.concatenate([digits.x, *outside])
        trained(network, x, np.concatenate([digits.y, np.full(len(x) - len(digits.x), 10)]), EPOCHS)
        defended = td.DustbinDefense(threshold=0.0).attach(network)
        if round < ROUNDS:
            found = small_steps(0.2, early_stop=True)(defended, digits.x, digits.y).x_adv
            outside.append(found[np.abs(found - digits.x).max((1, 2, 3)) > LEARNED])
    td.calibrate(defended, held_out.x[:200], max_rejected=0.05)
    return defended


def detector(digits, held_out):
    keras.utils.set_random_seed(0)
    network = trained(small_cnn(10, "detector"), digits.x, digits.y, 10)
    defended = td.AdversaryDetector("conv", width=16, depth=4, seed=0, threshold=0.0).attach(network)
    trainer = td.DetectorTraining(defended, small_steps(0.2))
    trainer.compile(keras.optimizers.Adam(3e-3))
    keras.utils.set_random_seed(0)
    trainer.fit(digits.x, digits.y, batch_size=64, epochs=20, verbose=0)
    td.calibrate(defended, held_out.x[:200], max_rejected=0.05)
    return defended


if __name__ == "__main__":
    samples = td.data.load("digits"), td.data.load("digits", "test")
    for make, path in ((dustbin, DUSTBIN), (detector, DETECTOR)):
        make(*samples).save(path)
        print(f"Written to {path}")
