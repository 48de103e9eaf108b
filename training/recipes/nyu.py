"""Depth guessed from a picture, NYU Depth V2 at 96x128: what forges depth maps for SceneProof (paper row S8).

Command: python -m training nyu_depth
Cost: about 15 minutes on 2 CPU cores, an estimate. The set cannot be downloaded.
Expected: not measured yet. What is shown while it trains is the mean absolute error on held-out scenes, 1 being 10 m; the
protocol has that on test scenes, beside the median depth at each pixel.

A U-Net. 325 scenes: from the other training scenes the classifier learns what guessed depth looks like where it was not learned
by heart. So few are probably why it is not twice as good as the median: the paper's guesses are by Eigen et al. (2014), who trained on
120,000 frames from features of ImageNet.

Real or forged? Pictures with depth, NYU Depth V2 at 96x128, on a narrow VGG of four channels (paper row S8), or on a residual
network that attacks are transferred from.
