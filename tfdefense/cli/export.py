"""`tfdefense export`: a model for other programs."""

from typing import Annotated, Any

import typer

from tfdefense.cli._app import command
from tfdefense.cli._inputs import load_data, load_keras
from tfdefense.cli._options import DataDir, Model, Split


@command("tfdefense export defended.keras defended.onnx")
def export(
    model: Model,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Ends in .onnx, .tflite or .keras; anything else is a SavedModel.")],
    format: Annotated[str | None, typer.Option(help="keras, saved_model, onnx or litert, whatever PATH ends in.")] = None,
    decode: Annotated[
        bool, typer.Option("--decode", help="For a SavedModel: it also takes JPEG and PNG files, of the model's size.")
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="For a .tflite: samples to quantise the network to eight bits by. Labels are compared on them."
        ),
    ] = None,
    max_changed: Annotated[float, typer.Option(help="With --quantize: the share of labels that may differ.")] = 0.02,
    recalibrate: Annotated[
        float | None,
        typer.Option(help="With --quantize: set the threshold anew to this share of fresh clean samples that may be rejected."),
    ] = None,
    split: Split = "test",
    data_dir: DataDir = None,
    resize: Annotated[
        bool, typer.Option("--resize", help="For a SavedModel: it also takes JPEG and PNG files of any size, and resizes them.")
    ] = False,
):
    """Write a model for other programs, with the rejection inside."""
    import tfdefense as td

    options: dict[str, Any] = {name: True for name, wanted in (("decode", decode), ("resize", resize)) if wanted}
    loaded = load_keras(model, "exported")
    if quantize is not None:
        options["quantize"] = load_data(loaded, quantize, split, None, None, None, data_dir=data_dir).x
        options |= {"max_changed": max_changed, "recalibrate": recalibrate}
    elif recalibrate is not None:
        raise ValueError("--recalibrate belongs to --quantize. Received it alone.")
    written = td.export.export(loaded, path, format, **options)
    total = sum(file.stat().st_size for file in ([written] if written.is_file() else written.rglob("*")) if file.is_file())
    print(f"{written}: {total / 1024:,.0f} KiB")
