"""CIFAR-10 on a narrow VGG16: the naive network of out-distribution learning (PAPERS.md, row O8).

Command: python -m training cifar10_vgg            (the network that attacks are crafted on: --seed 1)
Cost: 40 seconds to 4 minutes an epoch on one or two CPU cores, by their pace.
Expected: test accuracy 0.854, after 8 epochs 0.745; the paper has 0.905 with four times as many filters.

Sixteen filters in the first block where VGG16 has 64. 45,000 samples: the other 5,000 training samples stay unseen, and
what is chosen is judged on them.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    dataset="cifar10",
    model="vgg:vgg16",
    model_options={"width": 16},
    epochs=30,
    batch_size=128,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.05},
    warmup_steps=200,
    decay=True,
    augment=True,
    train_samples=45_000,
)
