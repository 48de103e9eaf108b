"""`tfdefense export`: a model for other programs."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._inputs import load_keras
from tfdefense.cli._options import Model


@command("tfdefense export defended.keras defended.onnx")
def export(
    model: Model,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Ends in .onnx, .tflite or .keras; anything else is a SavedModel.")],
    format: Annotated[str | None, typer.Option(help="keras, saved_model, onnx or litert, whatever PATH ends in.")] = None,
    decode: Annotated[bool, typer.Option("--decode", help="Of a SavedModel: it also takes JPEG and PNG files.")] = False,
    resize: Annotated[bool, typer.Option("--resize", help="The same, for pictures of any size.")] = False,
):
    """Write a model for other programs, with the rejection inside."""
    import tfdefense as td

    options = {name: True for name, wanted in (("decode", decode), ("resize", resize)) if wanted}
    written = td.export.export(load_keras(model, "exported"), path, format, **options)
    total = sum(file.stat().st_size for file in ([written] if written.is_file() else written.rglob("*")) if file.is_file())
    print(f"{written}: {total / 1024:,.0f} KiB")
