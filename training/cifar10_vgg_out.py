"""CIFAR-10 on a narrow VGG16 with a dustbin class, trained on CIFAR-100 (PAPERS.md, row O1).

Command: python -m training cifar10_vgg_out
Cost: 45 seconds to 4.5 minutes an epoch on one or two CPU cores, by their pace.
Expected: 0.839 and 0.580 of the foreign images rejected, 0.737 and 0.353 after 8 epochs; the paper has 0.886 and 0.954.

5,250 images of 75 classes of CIFAR-100 where the paper has 15,000: those of its test set, whose other 2,250 are held back
for testing. With CIFAR-100's training images: --dustbin '[{"set": "cifar100_out", "limit": 15000}]'.
"""

import dataclasses

from training import cifar10_vgg

RECIPE = dataclasses.replace(cifar10_vgg.RECIPE, dustbin=({"set": "cifar100_out_small"},))
