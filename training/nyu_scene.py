"""Real or forged? Pictures with depth, NYU Depth V2 at 96x128, on a narrow VGG of four channels (PAPERS.md, row S8).

Command: python -m training nyu_scene              (the network that attacks are transferred from: --seed 1)
Cost: about 25 CPU seconds an epoch, 10 minutes in all on 2 CPU cores, and first `nyu_depth`. The set cannot be downloaded.
Expected: not measured yet; the goal is an accuracy above 0.85 on the test scenes, which `python -m evaluation sceneproof` sees
alone. What is shown while it trains is of held-out training scenes.

650 scenes by room; the other 145 training scenes stay unseen, and thresholds are set on them.
"""

from training.recipe import Recipe

RECIPE = Recipe(
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
