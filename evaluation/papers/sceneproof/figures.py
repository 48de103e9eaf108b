"""Pictures of SceneProof, as in figure 4: the kinds of forgeries, and attacks that got through."""

import numpy as np

from evaluation.papers.sceneproof.names import WORST_CASE
from tfdefense._files import write_file


def _shown(pairs):
    """Picture above, depth below."""
    depth = np.repeat(pairs[..., 3:], 3, axis=-1)
    return np.concatenate([pairs[..., :3], depth], axis=1)


def kinds_of(setting, folder, columns=8):
    """One file a kind: real or forged pairs side by side."""
    from PIL import Image

    from tfdefense.data import scenes

    real, guessed = (array[:60:7][:columns] for array in setting.pairs["test"])
    made = {kind: scenes.forge(real, kind, predicted=guessed, seed=7) for kind in (*scenes.FAMILIAR, *scenes.UNFAMILIAR)}
    for kind, pairs in {"real": real, **made}.items():
        picture = np.concatenate(list(_shown(pairs)), axis=1)
        write_file(folder / f"{kind.replace(' ', '-')}.png", Image.fromarray(scenes.whole(picture)).save)


SHOWN = (("type I", "plain"), ("type II", "Det ABC"), (WORST_CASE, "Det ABC"))


def attacks_of(setting, folder, columns=6, shown=SHOWN):
    """Successful type I attacks on the plain network, and type II attacks on SafetyNet; forged pairs first."""
    import tfdefense as td
    from tfdefense.data import scenes

    for attack, system in shown:
        x, y = setting.attacked
        if attack == WORST_CASE:
            x, y = x[setting.first], y[setting.first]
        x_adv = setting.under(attack, system)
        outcomes = td.evaluate(setting.system(system), x_adv, y)
        changed = np.abs(x_adv - x).reshape(len(x), -1).max(-1) > 0
        through = np.flatnonzero(outcomes.wrong & changed)
        through = through[np.argsort(y[through], kind="stable")][:columns]
        if len(through):
            path = folder / f"{attack.replace(', ', '-').replace(' ', '-')}-{system.replace(' ', '-')}.png"
            labels = outcomes.label[through]
            td.plots.examples(_shown(x[through]), _shown(x_adv[through]), y[through], labels, path, class_names=scenes.CLASSES)
