"""MNIST on cuda-convnet with a dustbin class, trained on letters and on samples between the classes (PAPERS.md, row O2).

Command: python -m training mnist_cuda_interpolated
Cost: about 1.4 minutes an epoch on 2 free CPU cores, and `mnist_cuda` before, which gives the features.
Expected: test accuracy 0.992, the dustbin counted as wrong; the paper has 0.9948, and 0.9998 of the held-back letters rejected.

7,000 letters of NotMNIST (the paper: 10,000) and 15,000 samples half way to the nearest sample of another class, 1,500 a
class. All else is that of `mnist_cuda`.
"""

import dataclasses

from training import mnist_cuda

RECIPE = dataclasses.replace(
    mnist_cuda.RECIPE, dustbin=({"set": "notmnist"}, {"interpolated": "mnist_cuda", "alpha": 0.5, "per_class": 1500})
)
