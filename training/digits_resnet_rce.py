"""scikit-learn's 8x8 digits on a residual network with reverse cross-entropy (PAPERS.md, row R8).

Command: python -m training digits_resnet_rce            (other depths: --depth 20)
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.

Every setting is that of `digits_resnet_ce` but the loss; its docstring says why the optimizer is Adam.
"""

import dataclasses

from training import digits_resnet_ce

RECIPE = dataclasses.replace(digits_resnet_ce.RECIPE, loss="reverse_cross_entropy")
