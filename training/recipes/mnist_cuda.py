"""MNIST on cuda-convnet: the naive network of out-distribution learning (paper row O8).

Command: python -m training mnist_cuda            (the network that attacks are crafted on: --seed 1)
Cost: about 1 minute an epoch on 2 free CPU cores.
Expected: test accuracy 0.994; the paper has 0.995.

50,000 samples, as in the paper. The other 10,000 training samples stay unseen: what is chosen is judged on them.

MNIST on cuda-convnet with a dustbin class, trained on letters (paper row O1).

Command: python -m training mnist_cuda_out
Cost: about 1.2 minutes an epoch on 2 free CPU cores.
Expected: test accuracy 0.993 and all held-back letters rejected; the paper has 0.9947 and 0.9996.

7,000 letters of NotMNIST where the paper has 10,000: its other 3,000 here are held back for testing. All else is that of
`mnist_cuda`. Without NotMNIST's file: --dustbin '[{"set": "letters"}]' takes drawn ones.

MNIST on cuda-convnet with a dustbin class, trained on letters and on samples between the classes (paper row O2).

Command: python -m training mnist_cuda_interpolated
Cost: about 1.4 minutes an epoch on 2 free CPU cores, and `mnist_cuda` before, which gives the features.
Expected: test accuracy 0.992, the dustbin counted as wrong; the paper has 0.9948, and 0.9998 of the held-back letters rejected.

7,000 letters of NotMNIST (the paper: 10,000) and 15,000 samples half way to the nearest sample of another class, 1,500 a
class. All else is that of `mnist_cuda`.
"""

import dataclasses

from training.recipe import Recipe

mnist_cuda = Recipe(
    dataset="mnist",
    model="cuda_convnet:cuda_convnet",
    epochs=8,
    batch_size=128,
    optimizer="Adam",
    optimizer_options={"learning_rate": 2e-3},
    decay=True,
    train_samples=50_000,
)

mnist_cuda_out = dataclasses.replace(mnist_cuda, dustbin=({"set": "notmnist"},))

mnist_cuda_interpolated = dataclasses.replace(
    mnist_cuda, dustbin=({"set": "notmnist"}, {"interpolated": "mnist_cuda", "alpha": 0.5, "per_class": 1500})
)
