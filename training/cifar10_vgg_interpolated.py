"""CIFAR-10 on a narrow VGG16 with a dustbin class, trained on CIFAR-100 and samples between the classes (PAPERS.md, row O2).

Command: python -m training cifar10_vgg_interpolated
Cost: 1 to 6 minutes an epoch on one or two CPU cores, by their pace, and `cifar10_vgg` before, which gives the features.
Expected: 0.816 and 0.600 of the foreign images rejected, 0.664 and 0.480 after 8 epochs; the paper has 0.8665 and 0.962.

5,250 images of CIFAR-100 (the paper: 15,000) and 15,000 samples half way to the nearest sample of another class.
"""

import dataclasses

from training import cifar10_vgg

RECIPE = dataclasses.replace(
    cifar10_vgg.RECIPE,
    dustbin=({"set": "cifar100_out_small"}, {"interpolated": "cifar10_vgg", "alpha": 0.5, "per_class": 1500}),
)
