"""A detector branch on a layer of another recipe's network, which stays as it is, against the dynamic adversary."""

import keras

import tfdefense
from tfdefense import attacks

JUDGED = 500  # clean / adversarial pairs of test samples


def classifier(recipe, trained):
    """The path of the network that is watched."""
    return trained(recipe.watched["recipe"], **recipe.watched.get("settings", {})) / "model.keras"


def judged(recipe, path, test):
    """Clean / adversarial pairs of test samples under an oblivious attack, with 0 and 1."""
    adversary = attacks.BIM(recipe.attack["epsilon"])
    return tfdefense.adversarial_pairs(keras.models.load_model(path, compile=False), adversary, test.x[:JUDGED], test.y[:JUDGED])


def trainer(recipe, path):
    """What is trained: the branch alone. Saved is the model with the branch, whose threshold waits for `td.calibrate`."""
    network = keras.models.load_model(path, compile=False)
    watched = recipe.watched
    options = {"width": watched.get("width"), "depth": watched.get("depth"), "seed": recipe.seed}
    defended = tfdefense.AdversaryDetector(watched["layer"], **options).attach(network)
    options = {"share": recipe.attack_share, "benign": tuple(recipe.benign.items()), "seed": recipe.seed}
    return tfdefense.DetectorTraining(defended, attacks.DynamicAdversary(**{"schedule": "fixed"} | recipe.attack), **options)
