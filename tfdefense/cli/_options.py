"""Options that several commands have, and what is typed as their values."""

from pathlib import Path
from typing import Annotated

import typer

from tfdefense._untrusted import check_file

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A .keras file, or a SavedModel directory.")]
Data = Annotated[str, typer.Option(help="A data set by name (digits, mnist, cifar10, ...), an .npz file or an image folder.")]
HeldOutSplit = Annotated[
    str | None,
    typer.Option(
        "--split",
        help="Part of the data: train, test or all. By default all of your own file or folder, or its test part where it has "
        "parts; test of a set by name.",
    ),
]
Split = Annotated[str, typer.Option(help="Which part of the data: train, test or all.")]
DataDir = Annotated[str | None, typer.Option(help="Where data sets lie, if not in $TFDEFENSE_DATA.")]
Download = Annotated[bool, typer.Option("--download", help="Fetch a data set that is not there.")]
Bounds = Annotated[
    tuple[float, float] | None,
    typer.Option(metavar="LOW HIGH", help="Pixel values of a plain model, such as 0 255; by default 0 1. The data is rescaled."),
]
Classes = Annotated[
    str | None,
    typer.Option(metavar="A,B,C", help="Names of the model's classes in the order of its scores, where it does not know them."),
]
Norm = Annotated[str | None, typer.Option(help="Norm of the ball: linf, l2 or l1.")]
Source = Annotated[
    str | None, typer.Option(metavar="MODEL", help="The undefended model, where it can't be reached inside MODEL (a SavedModel).")
]
Cache = Annotated[
    str | None,
    typer.Option(
        metavar="DIRECTORY", help="Keep finished batches there: a run that was stopped goes on, several at once share the work."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS", help="A Ray cluster, such as auto, whose nodes share the attacks: pip install tfdefense[cluster]."
    ),
]
Seed = Annotated[int, typer.Option(help="Seed for the choice of samples and for random starts.")]


def class_list(text):
    """Class names from a list with commas."""
    return None if text is None else [part.strip() for part in text.split(",")]


def numbers(option, text):
    """Numbers from a list with commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between, as 0.05,0.1,0.5. Received: {text!r}.") from None


def writable(path, suffixes=()):
    """A path that can be written to, checked before the work is done and not after it."""
    if path is None:
        return None
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"Expected a path that ends in {' or '.join(suffixes)}. Received: {path}.")
    if path.is_dir():
        raise ValueError(f"{path} is a directory. Give the name of a file in it.")
    if path.exists():
        check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def writable_folder(path):
    """A directory to write to, made if it is not there."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file. Expected a folder to write to.")
    path.mkdir(parents=True, exist_ok=True)
    return path
