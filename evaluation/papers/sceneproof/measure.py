"""What is measured on a system of SceneProof: each function is a part of the run."""

import numpy as np


def rates(model, x, y):
    """The paper's rates, what is rejected of each label in all, how often the classifier alone is right, and the labels."""
    import tfdefense as td

    outcomes = td.evaluate(model, x, y)
    real, forged = y == 1, y == 0
    shares = {
        "F->T": outcomes.label[forged] == 1,
        "T->F": outcomes.label[real] == 0,
        "T->T rejected": (outcomes.label[real] == -1) & (outcomes.guess[real] == 1),
        "T rejected": outcomes.label[real] == -1,
        "F rejected": outcomes.label[forged] == -1,
        "right before rejection": outcomes.guess == y,
    }
    return {name: float(share.mean()) if len(share) else None for name, share in shares.items()} | {
        "label": outcomes.label.tolist()
    }


def flags(setting, x, y):
    """Tables 2 and 3: how often the classifier is right, and how often detectors A, B and C take samples for adversarial."""
    import tfdefense as td

    a, b, c = (td.evaluate(setting.system(name), x, y) for name in ("Det A", "Det B", "Det C"))
    either, true = a.rejected | b.rejected, a.guess == 1
    return {
        "right": float((a.guess == y).mean()),
        "B": float(b.rejected.mean()),
        "A": float(a.rejected.mean()),
        "A and B": float((a.rejected & b.rejected).mean()),
        "A or B": float(either.mean()),
        "A or B, of those taken for true": float(either[true].mean()) if true.any() else None,
        "C": float(c.rejected.mean()),
        "taken for true": int(true.sum()),
    }


def clean(setting, system):
    """Rates on the test pairs, and on each kind of unfamiliar forgery."""
    test, model = setting.scenes("test"), setting.system(system)
    return rates(model, test.x, test.y), {kind: rates(model, *pairs) for kind, pairs in setting.unfamiliar.items()}


def benign(setting, system):
    """Rates on real pairs that nobody forged or attacked, but that are not as clean, by perturbation."""
    found = {}
    for name, x in setting.benign.items():
        found[name] = rates(setting.system(system), x, np.ones(len(x), "int32"))
    return found


def attacked(setting, attack, system):
    x_adv, y = setting.under(attack, system), setting.attacked[1]
    # The worst case is searched for on the first ones alone.
    return rates(setting.system(system), x_adv, y if len(x_adv) == len(y) else y[setting.first])


def far(setting, system):
    """The worst case at a size where nothing should stand."""
    return rates(setting.system(system), *setting.far(system))


def flagged(setting, name, attack):
    """Tables 2 and 3 for one group of samples: real or forged ones, maybe under an attack, or one kind of forgery."""
    test = setting.scenes("test")
    if name in setting.unfamiliar:
        x, y = setting.unfamiliar[name]
        rows = np.ones(len(y), bool)
    else:
        x, y = (setting.under(attack, "plain"), setting.attacked[1]) if attack else (test.x, test.y)
        rows = {"forged": y == 0, "real": y == 1}[name] if name in ("forged", "real") else test.kind == name
    return flags(setting, x[rows], y[rows]) | {"samples": int(rows.sum())}
