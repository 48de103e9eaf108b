"""MNIST on the small network of Wong and Kolter (2018): the bases of the board, three seeds of each.

Command: python -m training mnist_wong            (other networks of the board: --seed 1, --seed 2)
Cost: 4 seconds of CPU time an epoch.
Expected: test accuracy 0.987 to 0.988 over three seeds.

15,000 training samples stay unseen: on them defenses are fitted and calibrated.

The same network against PGD in l2.

Command: python -m training mnist_wong_pgd
Cost: 15 seconds of CPU time an epoch.
Expected: test accuracy 0.982 to 0.985; robust accuracy on 500 test samples 0.68 to 0.70 at l2 2 (PGD, 20 steps, all starts).

Not against FGSM with a random start in linf 0.3, which Wong et al. (2020) use: this network learns to withstand that one step
alone after two epochs, and nothing else (catastrophic overfitting). And in l2, by whose distance the board is ordered. The rate
rises over three epochs: with a fast rise one network of three stayed at chance.

The same network with a dustbin, trained with reverse cross-entropy, as `mnist_joined`.

Command: python -m training mnist_wong_joined
Cost: 6 seconds of CPU time an epoch, and `mnist_wong` before, which gives the features.
Expected: test accuracy 0.984 to 0.986 over three seeds, the dustbin counted as wrong.

`mnist_wong_joined`, trained against PGD as `mnist_wong_pgd` is.

Command: python -m training mnist_wong_joined_pgd
Cost: 20 seconds of CPU time an epoch.
Expected: test accuracy 0.978 over three seeds, the dustbin counted as wrong.

The same network with Gaussian noise of deviation 0.5 in place of an attack, for `td.Smoothed`.

Command: python -m training mnist_noise
Cost: 5 seconds of CPU time an epoch.
Expected: not measured yet.

The test accuracy that it reports is that of clean images; `td.Smoothed` asks it about noisy ones.

The same with noise of deviation 0.75, for larger radii.

Command: python -m training mnist_noise_more
Cost: that of `mnist_noise`.
Expected: not measured yet.

The same network by confidence-calibrated adversarial training (CCAT): attacked samples lose their label with their distance.

Command: python -m training mnist_ccat
Cost: 25 seconds of CPU time an epoch.
Expected: not measured yet.

Size, power and share are those of Stutz et al. (2020), as in the authors' code. Their network is a ResNet-20 that learns for 100
epochs, their attack takes 40 steps with momentum and backtracking; ours takes 10.
It withstands attacks by its threshold alone: `td.ThresholdDefense("confidence")`.

The same network against PGD as `mnist_wong_pgd`, together with the head of `td.RectifiedRejection`.

Command: python -m training mnist_rectified
Cost: 17 seconds of CPU time an epoch.
Expected: not measured yet.

The head's weight of 1 and its constant confidence are those of Pang et al. (2022), whose networks are of CIFAR-10 and attacked in
10 steps. The model is a defended one, whose threshold waits for `td.calibrate`.
"""

import dataclasses

from training.recipe import Recipe

mnist_wong = Recipe(
    dataset="mnist",
    model="wong:wong_cnn",
    epochs=8,
    optimizer="Adam",
    optimizer_options={"learning_rate": 2e-3},
    warmup_steps=200,
    decay=True,
    train_samples=45_000,
)

mnist_wong_pgd = dataclasses.replace(
    mnist_wong,
    epochs=10,
    warmup_steps=1000,
    attack={"norm": "l2", "epsilon": 2.0, "steps": 5, "random_start": True},
)

mnist_wong_joined = dataclasses.replace(
    mnist_wong,
    loss="reverse_cross_entropy",
    dustbin=({"set": "notmnist"}, {"interpolated": "mnist_wong", "alpha": 0.5, "per_class": 900}),
)

mnist_wong_joined_pgd = dataclasses.replace(
    mnist_wong_joined,
    epochs=mnist_wong_pgd.epochs,
    warmup_steps=mnist_wong_pgd.warmup_steps,
    attack=mnist_wong_pgd.attack,
)

mnist_noise = dataclasses.replace(mnist_wong, epochs=12, noise=0.5)

mnist_noise_more = dataclasses.replace(mnist_noise, noise=0.75)

mnist_ccat = dataclasses.replace(
    mnist_wong_pgd,
    epochs=15,
    attack={"norm": "linf", "epsilon": 0.3, "steps": 10, "random_start": True},
    attack_share=0.5,
    rejection="ccat",
    rejection_options={"power": 10.0},
)

mnist_rectified = dataclasses.replace(mnist_wong_pgd, rejection="rectified", rejection_options={"width": 64})
