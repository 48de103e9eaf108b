"""The model of SceneProof in the zoo: real or forged pairs of picture and depth, of which an attacker may change depth alone."""

import numpy as np

from evaluation.papers.sceneproof.setting import Setting, scenes_learned, trained

NAME = "nyu_scene.safetynet"
SYSTEM = "Det ABC"
CHANGES = "depth alone"
# About 10 and 40 mm of a depth map.
SIZES = tuple(round(millimetres * 6.5535) / 65535 for millimetres in (10, 40))
SUITE = "sceneproof-2"
STEPS = 40
_settings = {}


def setting(context):
    """What the protocol `sceneproof` has: the detectors learn from attacks of the size that it chooses on held-out pairs."""
    place = context.cache, context.quick, context.data_dir
    if place not in _settings:
        networks = trained(context, ("depth", "classifier"))
        steps = 5 if context.quick else STEPS
        _settings[place] = Setting(context, networks, scenes_learned(networks), 300, 100, None, steps, (1, 1))
    return _settings[place]


def divided(here):
    """What the detectors are fitted on, real held-out pairs that calibrate them, and test pairs; a real one before its forgery.

    Test pairs are in a random order: the first ones of them are attacked.
    """
    from tfdefense.data import scenes
    from tfdefense.data.images import Images

    def images(part, rows, split):
        return Images(part.x[rows], part.y[rows], scenes.CLASSES, here.context.dataset, split, (0.0, 1.0))

    fitted, held_out, test = (here.scenes(part) for part in ("fitted", "held out", "test"))
    count = len(test.y) // 2
    order = np.random.default_rng(0).permutation(count)
    test_rows = np.stack([order, order + count], 1).ravel()
    fitted_rows = np.argsort(fitted.source, kind="stable")
    return (
        images(fitted, fitted_rows, "train"),
        images(held_out, held_out.y == scenes.REAL, "train"),
        images(test, test_rows, "test"),
    )


def build(here):
    """The fitted and calibrated model."""
    from tfdefense import contract
    from tfdefense.data import scenes

    model = here.system(SYSTEM)
    contract.name_classes(model, scenes.CLASSES)
    return model


def unfamiliar(here, model):
    """The shares of forgeries that pass, of kinds that the model has not seen."""
    import tfdefense as td
    from tfdefense.data import scenes

    return {kind: float((td.evaluate(model, x, y).label == scenes.REAL).mean()) for kind, (x, y) in here.unfamiliar.items()}
