"""MNIST on cuda-convnet: the naive network of out-distribution learning (PAPERS.md, row O8).

Command: python -m training mnist_cuda            (the network that attacks are crafted on: --seed 1)
Cost: about 1 minute an epoch on 2 free CPU cores.
Expected: test accuracy 0.994; the paper has 0.995.

50,000 samples, as in the paper. The other 10,000 training samples stay unseen: what is chosen is judged on them.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    dataset="mnist",
    model="cuda_convnet:cuda_convnet",
    epochs=8,
    batch_size=128,
    optimizer="Adam",
    optimizer_options={"learning_rate": 2e-3},
    decay=True,
    train_samples=50_000,
)
