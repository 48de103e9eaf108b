"""scikit-learn's 8x8 digits on a small network with a dustbin class, trained on drawn letters (paper row O1).

Command: python -m training digits_out
Cost: about 15 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.96, over 0.97 of the letters in other fonts rejected.

1,200 samples; the other 200 training samples stay unseen, and what is chosen is judged on them.

scikit-learn's 8x8 digits on a small network with a dustbin class: letters and samples between the classes (paper row O2).

Command: python -m training digits_interpolated
Cost: about 30 seconds on 2 CPU cores with `digits`, which gives the features; nothing to download.
Expected: test accuracy above 0.85: of images this small many a digit looks like a blend of two. Over 0.97 of the letters in
other fonts rejected.

1,200 samples; the other 200 training samples stay unseen, and what is chosen is judged on them.

The digits network with a dustbin, trained with reverse cross-entropy: one network for three defenses (paper row O9).

Command: python -m training digits_joined
Cost: about 20 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy 0.977 after 20 epochs of the first 1,100 samples, as the board trains it.

1,100 samples; the other 300 training samples stay unseen and calibrate what is attached to it.

`digits_joined`, trained against PGD in l2 as `digits_pgd` is.

Command: python -m training digits_joined_pgd
Cost: about a minute on 2 CPU cores.
Expected: test accuracy 0.940 after 20 epochs of the first 1,100 samples, as the board trains it.
"""

import dataclasses

from training.recipes.digits import digits, digits_pgd

digits_out = dataclasses.replace(digits, train_samples=1200, dustbin=({"set": "letters8", "limit": 300},))

_BETWEEN = {"interpolated": "digits", "alpha": 0.5, "per_class": 30, "settings": {"train_samples": 1200}}

digits_interpolated = dataclasses.replace(digits, train_samples=1200, dustbin=(*digits_out.dustbin, _BETWEEN))

digits_joined = dataclasses.replace(digits_out, train_samples=1100, loss="reverse_cross_entropy")

digits_joined_pgd = dataclasses.replace(
    digits_joined, optimizer_options=digits_pgd.optimizer_options, decay=digits_pgd.decay, attack=digits_pgd.attack
)
