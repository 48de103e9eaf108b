"""Attacks from options."""

import dataclasses

from tfdefense._suggest import did_you_mean
from tfdefense.cli._console import tell

ATTACKS = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "ilcm": "ILCM",
    "orthogonal-pgd": "OrthogonalPGD",
    "dynamic": "DynamicAdversary",
    "deepfool": "DeepFool",
    "jsma": "JSMA",
    "cw": "CarliniWagner",
    "minimum-norm": "MinimumNorm",
    "square": "Square",
    "hop-skip-jump": "HopSkipJump",
}
SURROGATES = ("bpda", "smooth")
OBJECTIVES = ("cross-entropy", "margin", "logsumexp", "evade", "maximum-confidence", "evade-raw")


def build_attack(name, **options):
    """An attack by name; an option that is None is the attack's own default, one that it does not have is an error."""
    check_name("attack", name, ATTACKS)
    from tfdefense import attacks

    kind = getattr(attacks, ATTACKS[name])
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = ", ".join(f"--{option.replace('_', '-')}" for option in options if option in fields)
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in fields:
            raise ValueError(f"The attack {name!r} has no --{option.replace('_', '-')}. It has {own}.")
    lacking = [n for n, field in fields.items() if field.default is dataclasses.MISSING and n not in options]
    if lacking:
        raise ValueError(f"The attack {name!r} needs --{lacking[0]}, such as --{lacking[0]} 0.1.")
    return kind(**options)


def surrogate_named(name):
    if name == "straight":
        tell("warning: --surrogate straight is now called --surrogate bpda; the next version no longer knows the old name.")
        name = "bpda"
    check_name("surrogate", name, SURROGATES)
    return name


def on_surrogate(attack, name):
    """An attack along the gradients of a differentiable surrogate, as `name` says; None is the model itself."""
    if name is None:
        return attack
    from tfdefense.attacks import BPDA

    return BPDA(attack, exact_forward=name == "bpda")


def objective_named(name):
    if name is None:
        return None
    from tfdefense import attacks

    classes = (attacks.CrossEntropy, attacks.Margin, attacks.LogSumExp, attacks.Evade, attacks.MaximumConfidence)
    kinds = dict(zip(OBJECTIVES, classes, strict=False))
    return attacks.Evade(raw=True) if name == "evade-raw" else kinds[name]()


def starts_named(text, model, y, source=None):
    """Starts from a list with commas. A SavedModel's base can't be reached, so `source` takes its place in "all"."""
    import keras

    from tfdefense.attacks.starts import STARTS, Transferred

    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if names == ("all",):
        if source is None or isinstance(model, keras.Model):
            return "all"
        names = tuple(name for name in STARTS if name != "interpolated" or len(set(y.tolist())) > 1)
    return tuple(Transferred(source) if name == "base" and source is not None else name for name in names)


def check_name(what, name, known):
    if name is not None and name not in known:
        raise ValueError(f"No {what} named {name!r}.{did_you_mean(name, known)} Expected one of {', '.join(known)}.")
