"""Depth guessed from a picture, NYU Depth V2 at 96x128: what forges depth maps for SceneProof (paper row S8).

Command: python -m training nyu_depth
Cost: about 15 minutes on 2 CPU cores, an estimate. The set cannot be downloaded.
Expected: not measured yet. What is shown while it trains is the mean absolute error on held-out scenes, 1 being 10 m; the
protocol has that on test scenes, beside the median depth at each pixel.

A U-Net. 325 scenes: from the other training scenes the classifier learns what guessed depth looks like where it was not learned
by heart. So few are probably why it is not twice as good as the median. The paper's guesses are by Eigen et al. (2014), who trained
on 120,000 frames from features of ImageNet.

Real or forged? Pictures with depth, NYU Depth V2 at 96x128, on a narrow VGG of four channels (paper row S8).

Command: python -m training nyu_scene              (the VGG that attacks are transferred from: --seed 1)
Cost: about 12 CPU minutes, and first `nyu_depth`. The set cannot be downloaded.
Expected: 0.96 of held-out training scenes right with depth of 8 bits, and not measured yet with 16;
`python -m evaluation sceneproof` alone sees the test scenes. What is shown while it trains is of held-out training scenes.

The network has the four channels and what is made of them by hand: edges, how well those of depth fit those of the picture when
moved, lines that both share. Of the channels alone so few scenes teach it little about planes that are only misaligned.
650 scenes by room; the other 145 training scenes stay unseen, and thresholds are set on them.

Depth has 16 bits. The set's own came through 8, steps of 39 mm: what they lost is drawn at random, alike for real and for guessed
depth (`td.data.scenes.spread`), so that neither is told by its values alone.

The same on a residual network, which attacks are transferred from (paper row S9).

Command: python -m training nyu_scene_resnet
Cost: about 30 CPU minutes, an estimate, and first `nyu_depth`. The set cannot be downloaded.
Expected: not measured yet.
"""

import dataclasses

from training.recipe import Recipe

nyu_depth = Recipe(
    dataset="nyu_depth_v2_small",
    model="scene:depth_net",
    epochs=150,
    batch_size=8,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.05},
    decay=True,
    loss="absolute_error",
    train_samples=325,
    task="depth",
)

nyu_scene = Recipe(
    dataset="nyu_depth_v2_small",
    model="scene:vgg_scene",
    model_options={"width": 16, "dropout": 0.3},
    epochs=40,
    batch_size=32,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 1e-3, "weight_decay": 0.05},
    warmup_steps=200,
    decay=True,
    train_samples=650,
    task="real",
    predictor="nyu_depth",
)

nyu_scene_resnet = dataclasses.replace(nyu_scene, model="scene:resnet_scene", model_options={"depth": 14, "width": 16})
