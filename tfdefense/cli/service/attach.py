"""`tfdefense attach`: a classifier and held-out samples become a finished defended model."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._console import tell
from tfdefense.cli._inputs import held_out_part, load_data, load_keras, training_part
from tfdefense.cli._options import Bounds, Classes, DataDir, Download, HeldOutSplit, Model, Seed, writable


@command("tfdefense attach model.keras --defense energy --held-out held_out/ --bounds 0 255 --output defended.keras")
def attach(
    model: Model,
    held_out: Annotated[
        str, typer.Option(help="Clean samples that the model was not trained on: a folder, an .npz file or a data set by name.")
    ],
    output: Annotated[str, typer.Option(metavar="KERAS", help="Where to write the defended model.")],
    defense: Annotated[
        str,
        typer.Option(help="A score of docs/scores.md, such as confidence or energy, or density, dustbin, dnr, neural-rejection."),
    ] = "confidence",
    layer: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A layer to watch, as `tfdefense info` names it. May be repeated for dnr."),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="An option of the defense, such as k=50. May be repeated.")
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Training samples, for a defense that learns from samples; without them it learns from half of the held-out."
        ),
    ] = None,
    max_rejected: Annotated[float, typer.Option(help="Share of fresh clean samples that may be rejected, on average.")] = 0.05,
    confidence: Annotated[
        float | None, typer.Option(help="How sure that promise must be, such as 0.95; by default it holds on average.")
    ] = None,
    split: HeldOutSplit = None,
    samples: Annotated[int | None, typer.Option(min=2, help="Number of held-out samples; by default all.")] = None,
    bounds: Bounds = None,
    classes: Classes = None,
    reference: Annotated[
        str | None, typer.Option(metavar="JSON", help="Where to write what `tfdefense monitor` compares the service with.")
    ] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Give a classifier a defense: attach it, adapt it and set its threshold, in one step."""
    output, reference = writable(output, (".keras",)), writable(reference, (".json",))
    loaded = load_keras(model, "defended")
    import tfdefense as td
    from tfdefense.cli.service.defenses import build_defense
    from tfdefense.contract import is_defended, nodes_of
    from tfdefense.layers import AdaptableLayer

    if is_defended(loaded):
        raise ValueError(f"{model} has a defense already. Expected a plain classifier. New thresholds: `tfdefense calibrate`.")
    built = build_defense(defense, layer or [], option or [])
    places = {"data_dir": data_dir, "download": download, "seed": seed}
    part = held_out_part(held_out, split)
    images = load_data(loaded, held_out, part, samples, bounds, classes, labels=False, **places)
    # A model that knows the names of its classes says them: those that the folder has, where nobody gave others.
    names = images.classes if images.classes and images.classes != tuple(map(str, range(len(images.classes)))) else None
    defended = built.attach(loaded, bounds=images.bounds, class_names=names)
    learns = bool(nodes_of(defended, AdaptableLayer))
    if train is not None and not learns:
        raise ValueError(f"The defense {defense!r} learns nothing from samples. Leave --train out.")
    fitted = None
    if learns and train is not None:
        fitted = load_data(loaded, train, training_part(train), None, bounds, classes, **places)
    elif learns and not images.classes:
        raise ValueError(
            f"The defense {defense!r} learns from samples and their classes, and the pictures in {held_out} have none. "
            "Expected one sub-folder for each class, or training samples in --train."
        )
    elif learns:
        fitted, images = images.divide(0.5, seed)
        tell(f"note: {defense} learns from {len(fitted)} of the held-out samples; --train leaves them all to the threshold.")
    if fitted is not None:
        td.adapt(defended, fitted.x, fitted.y, max_rejected=None)
    rejected = td.calibrate(defended, images.x, max_rejected=max_rejected, confidence=confidence)
    td.export.export(defended, output)
    promise = td.conformal.promise(max_rejected, confidence)
    print(f"{output}: {defense}, rejects {rejected:.1%} of {len(images)} samples of {held_out}. Promised: {promise}.")
    if images.classes:
        _doubt(defended, images)
    if reference:
        td.monitoring.reference(defended, images.x, reference, max_rejected=max_rejected)
        print(f"{reference}: watch the service with `tfdefense monitor {reference} labels.csv`")


def _doubt(defended, images):
    """Pixels in other bounds, or classes in another order, are no error: the answers are wrong, and nothing else says so."""
    import numpy as np

    from tfdefense.view import decide

    right = float((decide(defended, images.x).scores.argmax(-1) == images.y).mean())
    by_chance = np.bincount(images.y).max() / len(images)
    if right <= 2 * by_chance and right < 0.5:
        tell(
            f"warning: the model is right on {right:.1%} of these samples, hardly more than by chance. Does it take pixels from 0 "
            "to 255 (--bounds 0 255)? Are its classes in another order (--classes)?"
        )
