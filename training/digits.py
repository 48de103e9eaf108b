"""scikit-learn's 8x8 digits on a small network.

Command: python -m training digits
Cost: about 10 seconds on 2 CPU cores, nothing to download.
Expected: test accuracy above 0.97.
"""

from training.recipe import Recipe

RECIPE = Recipe(dataset="digits", model="small:digits_cnn", epochs=20, batch_size=64)
