"""Depth guessed from a picture, NYU Depth V2 at 96x128: what forges depth maps for SceneProof (PAPERS.md, row S8).

Command: python -m training nyu_depth
Cost: about 20 minutes on 2 CPU cores. The set cannot be downloaded.
Expected: a mean absolute error of 0.089, that is 0.9 m, on held-out scenes. The median depth at each pixel is wrong by 1.03 m.

325 scenes: from the other training scenes the classifier learns what guessed depth looks like where it was not learned by heart.
"""

from training.recipe import Recipe

RECIPE = Recipe(
    dataset="nyu_depth_v2_small",
    model="scene:depth_net",
    epochs=40,
    batch_size=8,
    optimizer="AdamW",
    optimizer_options={"learning_rate": 2e-3, "weight_decay": 0.05},
    decay=True,
    loss="absolute_error",
    train_samples=325,
    task="depth",
)
