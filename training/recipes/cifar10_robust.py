"""CIFAR-10 on ResNet-14, trained against FGSM with a random start: the cheapest base that withstands small perturbations.

Command: python -m training cifar10_fgsm            (other networks of the board: --seed 1, --seed 2)
Cost: 2 minutes of CPU time an epoch.
Expected: not measured yet.

8/255 and a step of 1.25 of that are those of Wong et al. (2020), whose rate also rises and then falls to 0 within 15 epochs. All
else is that of `cifar10_resnet_ce`. 10,000 training samples stay unseen: on them defenses are fitted and calibrated.

CIFAR-10 on ResNet-14 without attacks, on the same samples.

Command: python -m training cifar10_short            (other networks of the board: --seed 1, --seed 2)
Cost: 1 minute of CPU time an epoch.
Expected: not measured yet.
"""

import dataclasses

from training.recipes.cifar10_resnet import cifar10_resnet_ce

cifar10_short = dataclasses.replace(cifar10_resnet_ce, epochs=10, train_samples=40_000)

cifar10_fgsm = dataclasses.replace(
    cifar10_short,
    epochs=15,
    warmup_steps=600,
    attack={"epsilon": 8 / 255, "steps": 1, "step_size": 10 / 255, "random_start": True},
)
