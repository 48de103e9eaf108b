"""Defenses from names and options."""

import inspect

from tfdefense.cli._attacks import check_name

# Those that can be set up from clean samples alone. The names of scores come behind them.
DEFENSES = {
    "density": "DensityDefense",
    "dustbin": "DustbinDefense",
    "dnr": "DeepNeuralRejection",
    "neural-rejection": "NeuralRejection",
}
# Why the others are not.
ELSEWHERE = {
    "safetynet": "It learns from adversarial samples of your choice: `td.adapt(defended, x, y, adversarial=x_adv)` in Python.",
    "detector": "Its branch is trained by gradient: `td.DetectorTraining` in Python.",
}


def build_defense(name, layers, options):
    """A defense by name; `layers` are those it watches, `options` texts such as "k=50"."""
    import tfdefense as td
    from tfdefense.layers.scores import POST_HOC

    if name in ELSEWHERE:
        raise ValueError(f"The defense {name!r} can't be set up from clean samples. {ELSEWHERE[name]}")
    check_name("defense", name, (*POST_HOC, *DEFENSES))
    found = dict(map(_option, options))
    if name in POST_HOC:
        return td.ThresholdDefense(name, layer=_one(name, layers), **found)
    kind = getattr(td, DEFENSES[name])
    known = [each for each in inspect.signature(kind.__init__).parameters if each not in ("self", "threshold", "layer", "layers")]
    for option in found:
        if option not in known:
            raise ValueError(f"The defense {name!r} has no option {option!r}. It has {', '.join(known) or 'none'}.")
    if name == "dustbin":
        if layers:
            raise ValueError("The dustbin is the last class score. Expected no --layer.")
        return kind(threshold=None, **found)
    if name == "dnr":
        if not layers:
            raise ValueError("The defense 'dnr' needs --layer, once for each layer that it watches: see `tfdefense info MODEL`.")
        return kind(layers, **found)
    return kind(layer=_one(name, layers), **found)


def _one(name, layers):
    if len(layers) > 1:
        raise ValueError(f"The defense {name!r} watches one layer. Received {len(layers)}: {', '.join(layers)}.")
    return layers[0] if layers else None


def _option(text):
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError(f"--option must be NAME=VALUE, such as k=50. Received: {text!r}.")
    return name.strip().replace("-", "_"), _value(value.strip())


def _value(text):
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)
