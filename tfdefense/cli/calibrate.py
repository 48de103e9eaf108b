"""`tfdefense calibrate`: thresholds from clean samples."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._inputs import load_data, load_keras
from tfdefense.cli._options import Classes, Data, DataDir, Download, Model, Seed, Split, writable


@command("tfdefense calibrate defended.keras --data held_out.npz --split all --output calibrated.keras")
def calibrate(
    model: Model,
    data: Data,
    output: Annotated[str, typer.Option(metavar="KERAS", help="Where to write the calibrated model.")],
    max_rejected: Annotated[float, typer.Option(help="Share of fresh clean samples that may be rejected, on average.")] = 0.05,
    confidence: Annotated[float | None, typer.Option(help="Promise that share with so much confidence, such as 0.95.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Number of samples; by default all.")] = None,
    split: Split = "test",
    classes: Classes = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Set the thresholds of a defended model from clean samples that it was not trained on, nor is judged on later."""
    import tfdefense as td

    output, loaded = writable(output, (".keras",)), load_keras(model, "calibrated")
    images = load_data(loaded, data, split, samples, None, classes, seed=seed, data_dir=data_dir, download=download)
    rejected = td.calibrate(loaded, images.x, max_rejected=max_rejected, confidence=confidence)
    td.export.export(loaded, output)
    promised = f"Promised: {td.conformal.promise(max_rejected, confidence)}. Judge it on others: it knows these."
    print(f"{output}: rejects {rejected:.1%} of {len(images)} samples of {data} ({split}). {promised}")
