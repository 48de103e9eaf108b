"""`tfdefense predict`: labels for pictures, however many."""

import sys
from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._console import tell
from tfdefense.cli._inputs import load_model
from tfdefense.cli._options import Bounds, Classes, Model, class_list, writable, writable_folder

# Of the program, where all rows are written and some say that their picture can't be read. 2 is a mistake on the command line.
UNREADABLE_EXIT = 3


@command("tfdefense predict defended.keras photos/ more/*.jpg --output labels.csv")
def predict(
    model: Model,
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURES...", help="Pictures, folders, patterns in quotes, .npz, .npy or .tfrecord files."),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            metavar="CSV|PARQUET",
            help="Where to write a row for each picture; by default a CSV on the screen.",
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Pictures at once; by default as many as fit.")] = None,
    bounds: Bounds = None,
    classes: Classes = None,
    resize: Annotated[bool, typer.Option("--resize", help="Move pictures of another size to the model's.")] = False,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a Ray cluster that labels, such as auto; --output is a folder then."),
    ] = None,
):
    """Label pictures: file, class, confidence, suspicion and reason. Exit code 3: some could not be read; their rows say why."""
    from tfdefense._tables import SUFFIXES, checked, rows_of, write

    if ray is not None:
        if output is None or classes is not None:
            raise ValueError("With --ray expected --output, a folder, and no --classes.")
        output = writable_folder(output)
    else:
        output = writable(output, SUFFIXES)
        if output is not None:
            checked(output)
    loaded = load_model(model)
    from tfdefense.contract import is_defended, unready
    from tfdefense.prediction import REASONS, stream

    if is_defended(loaded) and (lack := unready(loaded)):
        raise ValueError(lack)
    if not is_defended(loaded):
        tell(f"warning: {model} has no defense, so nothing is rejected; `tfdefense attach` gives it one.")
    counts = dict.fromkeys(REASONS, 0)
    if ray is not None:
        _on_cluster(loaded, pictures, output, counts, ray=ray, batch_size=batch_size, bounds=bounds, resize=resize)
    else:
        shown = output is not None
        parts = stream(
            loaded, pictures, batch_size=batch_size, bounds=bounds, classes=class_list(classes), resize=resize, progress=shown
        )
        counted = _counted(parts, counts)
        if output is None:
            rows_of(sys.stdout, counted)
        else:
            write(output, counted)
    if output is not None:
        print(f"{output}: {sum(counts.values()):,} pictures, " + ", ".join(f"{n:,} {name}" for name, n in counts.items() if n))
    if counts["unreadable"]:
        unread, total = counts["unreadable"], sum(counts.values())
        tell(f"warning: {unread:,} of {total:,} pictures can't be read; the column reason says why.")
        raise typer.Exit(UNREADABLE_EXIT)


def _counted(parts, counts):
    for part in parts:
        for place, name in enumerate(counts):
            counts[name] += int((part.reason == place).sum())
        yield part


def _on_cluster(model, pictures, output, counts, **options):
    """Labels in a folder, counted from its files: some may be there from a run that was stopped."""
    from tfdefense._tables import reasons_of
    from tfdefense.prediction import REASONS, predict

    predict(model, pictures, output=output, progress=True, **options)
    for path in sorted(output.glob("*.parquet")):
        for reason in reasons_of(path):
            for place, name in enumerate(REASONS):
                counts[name] += int((reason == place).sum())
