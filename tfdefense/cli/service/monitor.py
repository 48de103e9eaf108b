"""`tfdefense monitor`: whether what a service sees is still what its model was calibrated on."""

from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._console import tell
from tfdefense.cli._options import writable

ALARM_EXIT = 1


@command("tfdefense monitor reference.json labels.parquet --output monitor.json --prometheus metrics.prom")
def monitor(
    reference: Annotated[
        str,
        typer.Argument(metavar="REFERENCE", help="The file that `tfdefense attach --reference` wrote, or --output the last time."),
    ],
    tables: Annotated[list[str], typer.Argument(metavar="LABELS...", help="Tables of `tfdefense predict`, oldest first.")],
    alpha: Annotated[
        float | None, typer.Option(help="Chance that it ever gives a false alarm, over its whole life; 0.05, or as it was begun.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(metavar="JSON", help="Where to keep what it has seen, to go on with the next table.")
    ] = None,
    prometheus: Annotated[
        str | None, typer.Option(metavar="FILE", help="Where to write the numbers in Prometheus's text format; ends in .prom.")
    ] = None,
    picture: Annotated[str | None, typer.Option(metavar="PNG", help="Where to draw them.")] = None,
):
    """Watch a service: the rejection rate, and whether the suspicion has drifted. Exit code 1: an alarm."""
    output, prometheus = writable(output, (".json",)), writable(prometheus, (".prom",))
    picture = writable(picture, (".png", ".pdf", ".svg"))
    from tfdefense._files import write_text
    from tfdefense.monitoring import Monitor

    watching = Monitor(reference, alpha=alpha)
    for table in tables:
        if not watching.read(table):
            tell(f"note: {table} was counted before and is left out: its content is that of a table that was.")
    print(watching.summary())
    if output:
        watching.save(output)
    if prometheus:
        write_text(prometheus, watching.prometheus())
    if picture:
        watching.plot(picture)
    for path in (output, prometheus, picture):
        if path:
            print(f"  {path}")
    if watching.alarms:
        raise typer.Exit(ALARM_EXIT)
