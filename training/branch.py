"""A detector branch on a layer of another recipe's network, which stays as it is, against the dynamic adversary."""

import keras

import tfdefense
from tfdefense import attacks

JUDGED = 500  # test samples, and their twins


def classifier(recipe, *, data_dir=None, cache=None):
    """The path of the network that is watched; trained first where it is not there."""
    from training.cache import train

    # As for a dustbin: where several processes train together, each comes here, and the first of them trains for all.
    settings = recipe.watched.get("settings", {})
    return train(recipe.watched["recipe"], data_dir=data_dir, cache=cache, strategy="one", **settings) / "model.keras"


def judged(recipe, path, test):
    """Test samples and their twins under an attack that knows of no detector, with 0 and 1."""
    adversary = attacks.BIM(recipe.attack["epsilon"])
    return tfdefense.twins(keras.models.load_model(path, compile=False), adversary, test.x[:JUDGED], test.y[:JUDGED])


def trainer(recipe, path):
    """What is trained: the branch alone. Saved is the model with the branch, whose threshold waits for `td.calibrate`."""
    network = keras.models.load_model(path, compile=False)
    watched = recipe.watched
    defended = tfdefense.AdversaryDetector(watched["layer"], width=watched.get("width"), seed=recipe.seed).attach(network)
    options = {"share": recipe.attack_share, "harmless": tuple(recipe.harmless.items()), "seed": recipe.seed}
    return tfdefense.DetectorTraining(defended, attacks.DynamicAdversary(**recipe.attack), **options)
