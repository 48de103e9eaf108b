"""Recipes that train the networks of `models/`:  `python -m training RECIPE`.

A recipe is a name in a file of `recipes/`, whose docstring gives its command, its cost and the numbers to expect.
`training.run("digits")` returns the trained model, from the cache when it is there already.

Models, layers and losses are keras.ops, so that recipes without an attack also run as `KERAS_BACKEND=jax python -m training
RECIPE`, where there is a GPU and no TensorFlow; the weights are read by every backend.
"""


def run(recipe, **settings):
    """The trained model of a recipe; see `training.train.train` for the settings, `strategy` and `fresh` among them."""
    import keras

    import tfdefense.layers  # noqa: F401 - models may end in one of them
    from training.train import train

    return keras.models.load_model(train(recipe, **settings) / "model.keras", compile=False)
