"""As `mnist_cuda_interpolated`, with harmless changes in the training set: a digit under noise stays a digit (PAPERS.md, row O9).

Command: python -m training mnist_cuda_harmless            (other changes: --harmless '{"gaussian": 0.1}')
Cost: about 1.5 minutes an epoch on 2 free CPU cores, and `mnist_cuda` before, which gives the features.
Expected: not measured yet.

Half of each batch is changed: random signs or Gaussian noise of up to 0.15, dimmed by up to 0.4, moved by up to 2 pixels.
Letters and interpolated samples are changed as well, or noise itself would tell the digits.
"""

import dataclasses

from training import mnist_cuda_interpolated

HARMLESS = {"sign": 0.15, "gaussian": 0.15, "dim": 0.4, "shift": 2}
RECIPE = dataclasses.replace(mnist_cuda_interpolated.RECIPE, harmless=HARMLESS)
