"""Training against PGD: for robustness alone, or so that the network learns when to be unsure."""

import tfdefense
from tfdefense import attacks

KINDS = ("ccat", "rectified")


def trainer(recipe, model):
    """The model as its recipe trains it. What is saved of a rectified one is the defended model, whose threshold waits."""
    options = dict(recipe.rejection_options)
    common = {"share": recipe.attack_share, "seed": recipe.seed}
    # Steps of one length, as in the literature on training.
    settings = {"schedule": "fixed"} | recipe.attack
    if recipe.rejection == "ccat":
        attack = attacks.PGD(**{"objective": attacks.WrongConfidence()} | settings)
        return tfdefense.ConfidenceCalibratedTraining(model, attack, **common, **options)
    if recipe.rejection == "rectified":
        head = {name: options.pop(name) for name in ("layer", "width") if name in options}
        defended = tfdefense.RectifiedRejection(**head, seed=recipe.seed).attach(model)
        return tfdefense.RectifiedTraining(defended, attacks.PGD(**settings), **common, **options)
    return tfdefense.AdversarialTraining(model, attacks.PGD(**settings), **common)


def check(recipe):
    if recipe.rejection is not None and recipe.rejection not in KINDS:
        raise ValueError(f"`rejection` must be one of {', '.join(map(repr, KINDS))}, or None. Received {recipe.rejection!r}.")
    if recipe.rejection and (recipe.attack is None or recipe.watched or recipe.loss != "cross_entropy"):
        raise ValueError(
            f"`rejection={recipe.rejection!r}` is trained on attacked samples with cross-entropy. Received attack {recipe.attack}, "
            f"loss {recipe.loss!r}. Give it an `attack`, such as {{'epsilon': 0.3, 'steps': 5}}."
        )
    if recipe.noise and (recipe.attack is not None or recipe.task != "classes" or not recipe.noise > 0):
        raise ValueError(
            f"`noise` must be a deviation above 0, of a recipe of classes without `attack`. Received {recipe.noise!r}, task "
            f"{recipe.task!r} and attack {recipe.attack}."
        )
