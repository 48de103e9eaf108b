"""`tfdefense info`: what a model is."""

import math
from pathlib import Path

from rich import box
from rich.table import Table

from tfdefense.cli._app import command
from tfdefense.cli._console import out
from tfdefense.cli._inputs import load_model
from tfdefense.cli._options import Model


@command("tfdefense info defended.keras")
def info(model: Model):
    """What a model is: its input, classes, layers by name, and whether its defense is finished."""
    for part in describe(model):
        console = out()
        wide = console.measure(part, options=console.options.update(width=_WIDEST)).maximum
        # No narrower than the part, whatever the terminal is.
        console.width = max(console.width, wide)
        console.print(part)


def describe(path):
    """A table of facts about a model and one of its layers, for the console."""
    model = load_model(path, sound=False)  # What is broken is shown, and said to be.
    import keras

    size = _size(Path(path))
    if isinstance(model, keras.Model):
        return [_facts(path, _keras_facts(model) | size), *_layers(model)]
    return [_facts(path, _saved_facts(model) | size)]


def _keras_facts(model):
    from tfdefense._validation import is_bounded, listed
    from tfdefense.contract import base_model, bounds_of, class_names, is_defended, unready
    from tfdefense.graph import as_functional

    if not model.built:
        as_functional(model)
    facts = {"kind": "plain classifier", "input": _shape(model.inputs[0].shape)}
    if is_defended(model):
        facts["kind"] = "defended classifier"
        facts["classes"] = str(model.output["scores"].shape[-1])
        if names := class_names(model):
            facts["classes"] += f": {listed(names)}"
        # A defended model inside a bigger one declares its own pixel values, not those of the whole.
        if bounds := bounds_of(model):
            low, high = bounds
            known = f"{low:g} to {high:g}; anything else is rejected"
            facts["pixel values"] = known if is_bounded((low, high)) else "any finite number"
            undefended = base_model(model).outputs[0].shape[-1]
            if undefended != model.output["scores"].shape[-1]:
                facts["scores of the base"] = str(undefended)
        facts["defense"] = unready(model) or "finished"
    elif len(model.outputs) == 1:
        facts["classes"] = str(model.outputs[0].shape[-1])
    facts["weights"] = f"{model.count_params():,}"
    return facts


def _saved_facts(model):
    signature = model.signatures.get("serving_default") if model.signatures else None
    if signature is None:
        return {"kind": "SavedModel without the signature serving_default"}
    outputs = signature.structured_outputs
    defended = {"scores", "suspicion", "label"} <= set(outputs)
    scores = outputs["scores"] if defended else next(iter(outputs.values()))
    inputs = ", ".join(_shape(spec.shape) for spec in signature.structured_input_signature[1].values())
    kind = f"SavedModel of a {'defended' if defended else 'plain'} classifier"
    return {"kind": kind, "input": inputs, "classes": str(scores.shape[-1]), "outputs": ", ".join(outputs)}


def _size(path):
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {"size": f"{sum(file.stat().st_size for file in files) / 1024:,.0f} KiB"}


def _facts(path, facts):
    table = Table(title=str(path), title_justify="left", title_style="bold", box=None, show_header=False, padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name, value)
    return table


def _layers(model):
    from tfdefense.contract import is_defended
    from tfdefense.defenses import watchable

    walked = list(_walk(model))
    # A defense watches layers of the classifier, not those of another defense.
    shapes = {} if is_defended(model) else watchable(model)
    table = Table(title="\nlayers", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in ("name", "type", "output", "state") if is_defended(model) else ("name", "type", "output", "to watch", "state"):
        # Names are typed again: whole, whatever the width of the terminal.
        table.add_column(column, no_wrap=True)
    for name, layer in walked:
        watched = () if is_defended(model) else (_watched(shapes.get(name)),)
        table.add_row(name, type(layer).__name__, _output(layer), *watched, _state(layer))
    return [table, _WATCHED] if shapes else [table]


_WIDEST = 1000
_WATCHED = (
    "features: tfdefense attach --layer NAME --defense knn, mahalanobis, rmds, density, dnr or neural-rejection; td.SafetyNet.\n"
    "maps: td.AdversaryDetector too. Numbers are values a sample: memory and time grow with them."
)


def _watched(shape):
    if shape is None:
        return ""
    return f"{math.prod(shape):,} {'maps' if len(shape) == 3 else 'features'}"


def _walk(model, prefix=""):
    """Layers in order, those of submodels by the path that `layers=[...]` of a defense takes."""
    import keras

    for layer in model.layers:
        yield prefix + layer.name, layer
        if isinstance(layer, keras.Model):
            yield from _walk(layer, f"{prefix}{layer.name}/")


def _output(layer):
    output = getattr(layer, "output", None) if getattr(layer, "_inbound_nodes", None) else None
    tensors = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else [output]
    return ", ".join(_shape(tensor.shape) for tensor in tensors if tensor is not None)


def _state(layer):
    from tfdefense.layers import AdaptableLayer, KernelDensity, TemperatureScaling, Threshold

    if isinstance(layer, Threshold):
        if not layer.calibrated:
            return "not calibrated"
        values = sorted({float(value) for value in layer.value.numpy().reshape(-1)})
        return f"rejects above {' to '.join(f'{value:.4g}' for value in dict.fromkeys((values[0], values[-1])))}"
    if isinstance(layer, KernelDensity) and layer.adapted:
        return f"adapted, sigma {float(layer.current_sigma):.4g}"
    if isinstance(layer, TemperatureScaling) and layer.adapted:
        return f"adapted, temperature {float(layer.temperature):.4g}"
    if isinstance(layer, AdaptableLayer):
        return "adapted" if layer.adapted else "not adapted"
    return ""


def _shape(shape):
    return " x ".join("any" if side is None else str(side) for side in shape)
