"""The Carlini CNN on 30,000 samples of MNIST, the network that Deep Neural Rejection defends (PAPERS.md, row N6).

Command: python -m training mnist_dnr            (the paper's length: --epochs 50)
Cost: about half a minute an epoch on 2 free CPU cores.
Expected: test accuracy about 0.99 after 8 epochs.

The other 30,000 training samples stay unseen: from them come the 10,000 that the machines are fitted on.
"""

import dataclasses

from training import mnist_carlini

RECIPE = dataclasses.replace(mnist_carlini.RECIPE, epochs=8, train_samples=30_000)
