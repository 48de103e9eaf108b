"""`tfdefense evaluate`: a model under attacks, each beside its control."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tfdefense.cli._app import command
from tfdefense.cli._console import out, outcome_table
from tfdefense.cli._inputs import load_data, load_model
from tfdefense.cli._options import (
    Bounds,
    Cache,
    Classes,
    Data,
    DataDir,
    Download,
    Model,
    Norm,
    Ray,
    Seed,
    Source,
    Split,
    class_list,
    numbers,
    writable,
    writable_folder,
)


@command("tfdefense evaluate defended.keras --data mnist --epsilon 0.2 --curve curve.png --json results.json")
def evaluate(
    model: Model,
    data: Data,
    epsilon: Annotated[
        float | None, typer.Option(help="Size of the attacks; by default a tenth of the range of the pixels.")
    ] = None,
    norm: Norm = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Iterations of the attacks; 40, or those of the report.")] = None,
    source: Source = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Number of samples, equally many of each class; 500, or those of the report.")
    ] = None,
    split: Split = "test",
    bounds: Bounds = None,
    classes: Classes = None,
    seed: Seed = 0,
    report: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Run the whole protocol and write its page there, index.html, and its numbers."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A report for a first look, in a minute or two.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="A report whose checks search on, twice as hard each time, until they find no more.")
    ] = False,
    linf_sizes: Annotated[
        str | None, typer.Option(help="Sizes of the report in linf, in shares of the range of the pixels, such as 0.05,0.1,0.5.")
    ] = None,
    l2_sizes: Annotated[str | None, typer.Option(help="Sizes of the report in l2, in the same unit.")] = None,
    max_rejected: Annotated[
        float | None, typer.Option(help="Share of clean samples that the model was calibrated to reject; 0.05.")
    ] = None,
    curve: Annotated[str | None, typer.Option(metavar="PNG", help="Where to draw accuracy against the size of the attack.")] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Sizes of the curve, such as 0,0.05,0.1,0.2; by default up to twice epsilon.")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="JSON", help="Where to write the numbers.")] = None,
    cache: Cache = None,
    ray: Ray = None,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Judge a model: clean samples, benign perturbations, oblivious and adaptive attacks."""
    if report is None:
        others: dict[str, Any] = {"quick": quick or None, "thorough": thorough or None, "max-rejected": max_rejected}
        others |= {"linf-sizes": linf_sizes, "l2-sizes": l2_sizes}
        home = "a report. Add --report FOLDER"
    else:
        others = {"epsilon": epsilon, "norm": norm, "curve": curve, "sizes": sizes, "json": json}
        home = "the short table. A report has --samples, --steps, --linf-sizes, --l2-sizes"
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"--{name} belongs to {home}.")
    if report is not None:
        settings = {"samples": samples, "steps": steps, "linf": linf_sizes, "l2": l2_sizes}
        options: dict[str, Any] = {
            "bounds": bounds,
            "split": split,
            "seed": seed,
            "data_dir": data_dir,
            "download": download,
            "cache": cache,
            "ray": ray,
        }
        options |= {"quick": quick, "thorough": thorough, "classes": class_list(classes)}
        options["max_rejected"] = 0.05 if max_rejected is None else max_rejected
        _write_report(model, data, report, source, settings, **options)
        return
    norm, steps, samples = norm or "linf", steps or 40, samples or 500
    curve, json = writable(curve, (".png", ".pdf", ".svg")), writable(json, (".json",))
    loaded, source = load_model(model), None if source is None else load_model(source)
    from tfdefense._progress import estimate
    from tfdefense.attacks.norms import norm_named
    from tfdefense.reporting.table import Settings, table

    norm_named(norm)  # Before the work and not in the middle of it.
    images = load_data(loaded, data, split, samples, bounds, classes, seed=seed, data_dir=data_dir, download=download)
    bounds = images.bounds
    epsilon = (bounds[1] - bounds[0]) / 10 if epsilon is None else epsilon
    points = _points(sizes, epsilon) if curve or sizes else ()
    with estimate() as begin:
        found = table(loaded, images, Settings(epsilon, norm, steps, seed, points, source, cache, ray), begin)
    title = f"{model} on {len(images)} samples of {data}; attacks of {norm} size {epsilon:g}, {steps} steps"
    out().print(outcome_table(title, found.rows))
    clean = found.rows[0][1]
    if clean.suspicion is not None and clean.coverage:
        from tfdefense.metrics import aurc

        print(f"  of the clean samples accepted {clean.risk:.2%} are wrong; area under the risk-coverage curve {aurc(clean):.4f}")
    for entry in found.left_out:
        print(f"  not run: {entry['name']}: {entry['reason']}")
    if curve:
        from tfdefense import plots

        plots.security_curve(found.curves, curve, xlabel=f"{norm} size")
        print(f"  {curve}")
    if json:
        about = {"model": str(model), "data": str(data), "split": split, "samples": len(images)}
        found.write_json(json, about)
        print(f"  {json}")


def _points(text, epsilon):
    """Sizes from a list with commas; by default six up to twice epsilon."""
    if text is None:
        return tuple(round(2 * epsilon * step / 5, 10) for step in range(6))
    found = tuple(numbers("--sizes", text))
    if not (found[0] >= 0 and found[-1] < float("inf") and all(a < b for a, b in zip(found, found[1:], strict=False))):
        raise ValueError(f"--sizes must be growing numbers of at least 0, such as 0,0.1,0.2. Received: {text!r}.")
    return found


def _write_report(model, data, folder, source, settings, **options):
    """The protocol of `td.report`, with its result and checks on the console."""
    for norm in ("linf", "l2"):
        settings[norm] = settings[norm] and numbers(f"--{norm}-sizes", settings[norm])
    folder = writable_folder(folder)
    from tfdefense.reporting import page, report

    # Told before the work and not after it.
    page.environment()
    loaded, source = load_model(model), None if source is None else load_model(source)
    name = Path(model).name
    found = report(loaded, data, folder, source=source, progress=True, name=name, **options, **settings)
    print(found.headline)
    print(found.verdict)
    for note in found.content["verdict"]["notes"]:
        print(f"  {note}")
    for check in found.content["checks"]:
        if not check["passed"]:
            print(f"  failed: {check['name']} (allowed: {check['limit']})")
    print(f"  {folder / 'index.html'}")
