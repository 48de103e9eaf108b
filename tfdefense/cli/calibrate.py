"""`tfdefense calibrate`: thresholds from clean samples."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._inputs import held_out_part, load_data, load_keras
from tfdefense.cli._options import Classes, Data, DataDir, Download, HeldOutSplit, Model, Seed, writable


@command("tfdefense calibrate defended.keras --data held_out.npz --output calibrated.keras")
def calibrate(
    model: Model,
    data: Data,
    output: Annotated[str, typer.Option(metavar="KERAS", help="Where to write the calibrated model.")],
    max_rejected: Annotated[
        float | None, typer.Option(help="Share of fresh clean samples that may be rejected, on average; 0.05.")
    ] = None,
    risk: Annotated[
        float | None, typer.Option(help="Promise this instead: the share of accepted samples that may be wrong, such as 0.01.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(
            help="How sure the promise must be, such as 0.95. By default a rejection is promised on average, a risk with 0.95."
        ),
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Number of samples; by default all.")] = None,
    split: HeldOutSplit = None,
    classes: Classes = None,
    reference: Annotated[
        str | None, typer.Option(metavar="JSON", help="Where to write what `tfdefense monitor` compares a service with.")
    ] = None,
    seed: Seed = 0,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Set the thresholds of a defended model from clean samples. It must be neither trained nor judged on these."""
    import tfdefense as td

    output, reference = writable(output, (".keras",)), writable(reference, (".json",))
    loaded = load_keras(model, "calibrated")
    split, places = held_out_part(data, split), {"seed": seed, "data_dir": data_dir, "download": download}
    # A rejection rate needs no classes.
    images = load_data(loaded, data, split, samples, None, classes, labels=risk is not None, **places)
    y = None if risk is None else images.y
    rejected = td.calibrate(loaded, images.x, y, max_rejected=max_rejected, confidence=confidence, risk=risk)
    td.export.export(loaded, output)
    if risk is None:
        promise = td.conformal.promise(0.05 if max_rejected is None else max_rejected, confidence)
    else:
        promise = td.conformal.risk_promise(risk, 0.95 if confidence is None else confidence)
    promised = f"Promised: {promise}. Judge it on others: it knows these."
    print(f"{output}: rejects {rejected:.1%} of {len(images)} samples of {data} ({split}). {promised}")
    if reference:
        td.monitoring.reference(
            loaded, images.x, reference, max_rejected=None if risk else 0.05 if max_rejected is None else max_rejected
        )
        print(reference)
