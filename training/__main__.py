"""`python -m training RECIPE`: shows progress on the error stream; the output is the path of the model, for scripts."""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from tfdefense._files import write_file
from tfdefense._renamed import renamed_options
from training import recipe as recipes

# Before TensorFlow is imported, which without AVX-512 computes without oneDNN, up to twice as slowly.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


def command(
    recipe: Annotated[str, typer.Argument(help=f"One of: {', '.join(recipes.names())}.")],
    epochs: Annotated[int | None, typer.Option(help="Epochs in place of the recipe's own.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Batch size in place of the recipe's own.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the weights, the order and the dropout.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set in place of the recipe's own.")] = None,
    model: Annotated[str | None, typer.Option(help="Network in place of the recipe's own, FILE:FUNCTION of models/.")] = None,
    depth: Annotated[int | None, typer.Option(help="Depth of a residual network, 6n + 2.")] = None,
    width: Annotated[int | None, typer.Option(help="Filters of the first block, for networks of any width.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="A class of keras.optimizers, with its own defaults.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Learning rate in place of the recipe's own.")] = None,
    train_samples: Annotated[int | None, typer.Option(help="Only so many training samples, the first ones.")] = None,
    dustbin: Annotated[str | None, typer.Option(help="JSON list of what goes into one class more; see training/recipe.py.")] = None,
    benign: Annotated[
        str | None, typer.Option(help='JSON: benign perturbations of half of each batch, such as {"sign": 0.1}.')
    ] = None,
    mixed_precision: Annotated[bool, typer.Option("--mixed-precision", help="Compute in 16 bits, keep weights in 32.")] = False,
    strategy: Annotated[
        str, typer.Option(help="auto, one, mirrored (all GPUs here) or multiworker (see training/WORKERS.md).")
    ] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh/--resume", help="Begin anew, whatever an earlier run left.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets are; else $TFDEFENSE_DATA.")] = None,
    output: Annotated[Path | None, typer.Option(help="Also copy the model to this .keras file.")] = None,
):
    """Train a network, or find it in the cache ($TFDEFENSE_CACHE, else the user's own). Interrupted runs resume."""
    from training.train import train

    settings = {
        "dataset": dataset,
        "model": model,
        "mixed_precision": mixed_precision or None,
        "epochs": epochs,
        "batch_size": batch_size,
        "seed": seed,
        "depth": depth,
        "width": width,
        "optimizer": optimizer,
        "learning_rate": learning_rate,
        "train_samples": train_samples,
    }
    try:
        settings |= {"dustbin": _read("dustbin", dustbin, list), "benign": _read("benign", benign, dict)}
        if output and output.suffix != ".keras":
            raise ValueError(f"`--output` must end in .keras. Received {output}.")
        sys.stdout, shown = sys.stderr, sys.stdout  # keras prints its progress: the output is for the path alone
        try:
            model = train(recipe, data_dir=data_dir, strategy=strategy, fresh=fresh, **settings) / "model.keras"
        finally:
            sys.stdout = shown
        if output:
            write_file(output, lambda new: shutil.copyfile(model, new))
    except (ValueError, FileNotFoundError) as error:  # the second: data that are not here
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    print(output or model)


def _read(name, text, kind):
    """An option that is written in JSON."""
    try:
        value = None if text is None else json.loads(text)
    except json.JSONDecodeError:
        value = text
    if value is not None and not isinstance(value, kind):
        example = {"list": '[{"set": "letters"}]', "dict": '{"sign": 0.1}'}[kind.__name__]
        raise ValueError(f"`--{name}` must be JSON such as '{example}'. Received {text}.")
    return value


if __name__ == "__main__":
    sys.argv[1:] = renamed_options(sys.argv[1:], lambda line: print(line, file=sys.stderr), harmless="benign")
    typer.run(command)
