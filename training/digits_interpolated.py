"""scikit-learn's 8x8 digits on a small network with a dustbin class: letters and samples between the classes (PAPERS.md, row O2).

Command: python -m training digits_interpolated
Cost: about 30 seconds on 2 CPU cores with `digits`, which gives the features; nothing to download.
Expected: test accuracy above 0.85: of images this small many a digit looks like a blend of two. Over 0.97 of the letters in
other fonts rejected.

1,200 samples; the other 200 training samples stay unseen, and what is chosen is judged on them.
"""

import dataclasses

from training import digits, digits_out

BETWEEN = {"interpolated": "digits", "alpha": 0.5, "per_class": 30, "settings": {"train_samples": 1200}}
RECIPE = dataclasses.replace(digits.RECIPE, train_samples=1200, dustbin=(*digits_out.RECIPE.dustbin, BETWEEN))
