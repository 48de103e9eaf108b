"""`tfdefense compare`: which defense to take."""

from typing import Annotated, Any

import typer

from tfdefense.cli._app import command
from tfdefense.cli._inputs import held_out_part, load_data, load_keras, training_part
from tfdefense.cli._options import Bounds, Classes, Data, DataDir, Download, HeldOutSplit, Model, Norm, Seed, class_list, writable


@command("tfdefense compare model.keras --data held_out/ --ood letters --output defended.keras --picture comparison.png")
def compare(
    model: Model,
    data: Data,
    ood: Annotated[
        list[str] | None,
        typer.Option(help="Out-of-distribution images, which are none of the classes: as --data. May be repeated."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Training samples, for scores that adapt; without them they adapt on half of the part that chooses."),
    ] = None,
    candidates: Annotated[
        str | None, typer.Option(metavar="A,B,C", help="Names of scores, such as confidence,energy; by default all.")
    ] = None,
    attack: Annotated[str, typer.Option(help="A suite of attacks, such as quick-1 or standard-1, or none.")] = "quick-1",
    epsilon: Annotated[
        float | None, typer.Option(help="Size of the attack; by default a twentieth of the range of the pixels.")
    ] = None,
    norm: Norm = None,
    attacked: Annotated[int, typer.Option(min=1, help="Samples that are attacked, for each candidate.")] = 32,
    steps: Annotated[int | None, typer.Option(min=1, help="Iterations of each attack; those of the suite.")] = None,
    by: Annotated[str | None, typer.Option(help="What the winner is chosen by: ood, risk or attack.")] = None,
    max_rejected: Annotated[float, typer.Option(help="Share of fresh clean samples that may be rejected.")] = 0.05,
    confidence: Annotated[
        float | None, typer.Option(help="How sure that promise must be, such as 0.95; by default it holds on average.")
    ] = None,
    samples: Annotated[
        int, typer.Option(min=6, help="Number of held-out samples, and of each out-of-distribution set at most.")
    ] = 1000,
    split: HeldOutSplit = None,
    bounds: Bounds = None,
    classes: Classes = None,
    output: Annotated[str | None, typer.Option(metavar="KERAS", help="Where to write the winner.")] = None,
    picture: Annotated[str | None, typer.Option(metavar="PNG", help="Where to draw the comparison.")] = None,
    json: Annotated[str | None, typer.Option(metavar="JSON", help="Where to write the numbers.")] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Choose a defense on one part of held-out samples, calibrate on another, and report all on a third."""
    output, picture = writable(output, (".keras",)), writable(picture, (".png", ".pdf", ".svg"))
    json = writable(json, (".json",))
    loaded = load_keras(model, "defended")
    import tfdefense as td
    from tfdefense.comparison.candidates import named

    chosen = None if candidates is None else class_list(candidates)
    named(chosen)  # Told before the data is read.
    split = held_out_part(data, split)
    places: dict[str, Any] = {"data_dir": data_dir, "download": download, "seed": seed}
    images = load_data(loaded, data, split, samples, bounds, classes, **places)
    fitted = None if train is None else load_data(loaded, train, training_part(train), None, bounds, classes, **places)
    # Their classes are none of the model's: it does not matter how they are numbered, nor whether there are any.
    sets = {name: td.data.load(name, "all", labels=False, limit=samples, **places).moved(images.bounds) for name in ood or ()}
    options: dict[str, Any] = {"train": fitted, "bounds": images.bounds, "class_names": class_list(classes), "seed": seed}
    options |= {"progress": True, "picture": picture}
    options |= {"attack": None if attack == "none" else attack, "epsilon": epsilon, "norm": norm or "linf", "attacked": attacked}
    options |= {"steps": steps, "by": by, "max_rejected": max_rejected, "confidence": confidence}
    found = td.compare(loaded, chosen, images, ood=sets or None, **options)
    print(found.summary())
    if json:
        found.write_json(json)
    if output:
        td.export.export(found.winner, output)
    for path in (output, picture, json):
        if path:
            print(f"  {path}")
