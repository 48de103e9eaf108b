"""The command line: look into a model, attack it, judge it, calibrate it, export it."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from tfdefense import __version__
from tfdefense import _console as console
from tfdefense._files import write_file

app = typer.Typer(
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    add_completion=False,
    help='Classifiers that can say "none of these", and attacks that know it.',
    epilog="Start with:  tfdefense info model.keras",
)

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A .keras file, or a SavedModel directory.")]
Data = Annotated[str, typer.Option(help="A data set by name (digits, mnist, cifar10, ...), an .npz file or an image folder.")]
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
Keep = Annotated[
    str | None,
    typer.Option(
        metavar="DIRECTORY", help="Keep finished batches there: a run that was stopped goes on, several at once share the work."
    ),
]
Seed = Annotated[int, typer.Option(help="Of the choice of samples and of random starts.")]


def _version(wanted: bool):
    if wanted:
        print(f"tfdefense {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
):
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(epilog="Example:  tfdefense info defended.keras")
@console.command
def info(model: Model):
    """What a model is: its input, classes, layers by name, and whether its defense is finished."""
    from tfdefense._inspect import describe

    for part in describe(model):
        console.out().print(part)


@app.command(epilog="Example:  tfdefense attack model.keras --data mnist --attack pgd --epsilon 0.2 --starts all --output adv.npz")
@console.command
def attack(
    model: Model,
    data: Data,
    attack: Annotated[str, typer.Option(help=f"One of {', '.join(console.ATTACKS)}.")] = "pgd",
    epsilon: Annotated[float | None, typer.Option(help="Size of the ball, in the units of the pixels.")] = None,
    norm: Norm = None,
    steps: Annotated[int | None, typer.Option(help="Iterations.")] = None,
    step_size: Annotated[float | None, typer.Option(help="Length of one step.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Of dynamic: 0 is against the classifier alone, 1 the detector.")] = None,
    queries: Annotated[int | None, typer.Option(help="Looks at the model, of an attack without gradients.")] = None,
    objective: Annotated[
        str | None, typer.Option(help=f"What is made small: {', '.join(console.OBJECTIVES)}. By default the defense-aware one.")
    ] = None,
    starts: Annotated[
        str | None, typer.Option(help="Where to begin: all, or some of sample,random,interpolated,base with commas.")
    ] = None,
    restarts: Annotated[int | None, typer.Option(help="Random starts.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to be taken for: a number, least_likely or most_likely. By default any wrong one.")
    ] = None,
    unaware: Annotated[
        bool, typer.Option("--unaware", help="Craft on the undefended model: an attacker who does not know of the defense.")
    ] = False,
    through: Annotated[
        str | None,
        typer.Option(
            metavar="SURROGATE",
            help="Where a defense has no gradient: smooth follows an annealed surrogate, straight takes its gradients alone.",
        ),
    ] = None,
    source: Source = None,
    samples: Annotated[int, typer.Option(min=1, help="Number of samples, equally many of each class.")] = 100,
    split: Split = "test",
    bounds: Bounds = None,
    classes: Classes = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 128,
    seed: Seed = 0,
    output: Annotated[str | None, typer.Option(metavar="NPZ", help="Where to write the adversarial samples.")] = None,
    picture: Annotated[str | None, typer.Option(metavar="PNG", help="Where to draw some of them.")] = None,
    keep: Keep = None,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Attack a model, aware of its defense unless told otherwise."""
    import tfdefense as td

    output, picture = console.writable(output, (".npz",)), console.writable(picture, (".png", ".pdf", ".svg"))
    console.check_name("attack", attack, console.ATTACKS)
    console.check_name("objective", objective, console.OBJECTIVES)
    console.check_name("surrogate", through, console.SURROGATES)
    loaded, source = console.load_model(model), None if source is None else console.load_model(source)
    chosen = {"epsilon": epsilon, "norm": norm, "steps": steps, "step_size": step_size, "restarts": restarts, "queries": queries}
    chosen |= {"objective": console.objective_named(objective), "starts": None, "seed": seed or None, "sigma": sigma}
    console.build_attack(attack, **chosen)
    images = console.load_data(loaded, data, split, samples, bounds, classes, seed=seed, data_dir=data_dir, download=download)
    bounds = images.bounds
    if unaware and source is None:
        _check_base(model, loaded)
    goal, images = _target(target, images)
    chosen["starts"] = console.starts_named(starts, loaded, images.y, source)
    crafting = console.through_surrogate(console.build_attack(attack, **chosen), through)
    crafting = td.attacks.Transfer(crafting, source) if unaware else crafting
    clean = td.evaluate(loaded, images.x, images.y)
    options = {"bounds": bounds, "batch_size": batch_size, "progress": sys.stdout.isatty(), "kept": keep}
    result = crafting(loaded, images.x, images.y, goal, **options)
    # Not the attack's own labels: the model is asked again.
    attacked = td.evaluate(loaded, result, images.y)

    title = f"{attack} on {model}, {len(images)} samples of {data}{', unaware of the defense' if unaware else ''}"
    console.out().print(console.outcome_table(title, [("clean", clean), ("adversarial", attacked)]))
    print(f"  {console.strength(result, goal)}")
    if output:
        from tfdefense.data import own

        own.write_attacked(output, images, result)
        print(f"  {output}: read it with --data {output} --split all")
    if picture:
        names = images.classes or None
        td.plots.examples(images.x, result.x_adv, images.y, result.label, picture, bounds=bounds, class_names=names)
        print(f"  {picture}")


def _check_base(path, model):
    import keras

    from tfdefense.contract import is_defended

    if not isinstance(model, keras.Model):
        raise ValueError(f"The undefended model inside the SavedModel {path} can't be reached. Give it: --source classifier.keras")
    if not is_defended(model):
        raise ValueError(f"{path} has no defense to be unaware of. Leave --unaware out, or give --source MODEL to craft on.")


def _target(target, images):
    """The classes to be taken for, and the samples that are not of that class already."""
    import numpy as np

    if target is None or target in ("least_likely", "most_likely"):
        return target, images
    if not target.isdecimal():
        raise ValueError(f"--target must be a class number, least_likely or most_likely. Received: {target!r}.")
    images = images.take(images.y != int(target))
    if len(images) == 0:
        raise ValueError(f"All samples are of class {target} already. Choose another --target, or more --samples.")
    return np.full(len(images), int(target)), images


@app.command(epilog="Example:  tfdefense evaluate defended.keras --data mnist --epsilon 0.2 --curve curve.png --json results.json")
@console.command
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
    linf_sizes: Annotated[
        str | None, typer.Option(help="Sizes of the report in linf, in shares of the range of the pixels, such as 0.05,0.1,0.5.")
    ] = None,
    l2_sizes: Annotated[str | None, typer.Option(help="Sizes of the report in l2, in the same unit.")] = None,
    max_rejected: Annotated[
        float | None, typer.Option(help="What the report may find rejected of clean samples, as calibrated; 0.05.")
    ] = None,
    curve: Annotated[str | None, typer.Option(metavar="PNG", help="Where to draw accuracy against the size of the attack.")] = None,
    sizes: Annotated[
        str | None, typer.Option(help="Sizes of the curve, such as 0,0.05,0.1,0.2; by default up to twice epsilon.")
    ] = None,
    json: Annotated[str | None, typer.Option(metavar="JSON", help="Where to write the numbers.")] = None,
    keep: Keep = None,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Judge a model: clean samples, harmless changes, attacks that don't know of its defense and attacks that do."""
    if report is None:
        others = {"quick": quick or None, "linf-sizes": linf_sizes, "l2-sizes": l2_sizes, "max-rejected": max_rejected}
        home = "a report. Add --report FOLDER"
    else:
        others = {"epsilon": epsilon, "norm": norm, "curve": curve, "sizes": sizes, "json": json}
        home = "the short table. A report has --samples, --steps, --linf-sizes, --l2-sizes"
    for name, value in others.items():
        if value is not None:
            raise ValueError(f"--{name} belongs to {home}.")
    if report is not None:
        settings = {"samples": samples, "steps": steps, "linf": linf_sizes, "l2": l2_sizes}
        options = {"bounds": bounds, "split": split, "seed": seed, "data_dir": data_dir, "download": download, "kept": keep}
        options |= {"quick": quick, "classes": console.class_list(classes)}
        options["max_rejected"] = 0.05 if max_rejected is None else max_rejected
        _write_report(model, data, report, source, settings, **options)
        return
    norm, steps, samples = norm or "linf", steps or 40, samples or 500
    curve, json = console.writable(curve, (".png", ".pdf", ".svg")), console.writable(json, (".json",))
    loaded, source = console.load_model(model), None if source is None else console.load_model(source)
    from tfdefense import _judge

    images = console.load_data(loaded, data, split, samples, bounds, classes, seed=seed, data_dir=data_dir, download=download)
    bounds = images.bounds
    epsilon = (bounds[1] - bounds[0]) / 10 if epsilon is None else epsilon
    settings = _judge.Settings(epsilon, norm, steps, seed, source, keep)
    points = _judge.sizes(sizes, epsilon) if curve or sizes else None

    rows = _judge.rows(loaded, images, settings)
    title = f"{model} on {len(images)} samples of {data}; attacks of {norm} size {epsilon:g}, {steps} steps"
    console.out().print(console.outcome_table(title, rows))
    curves = _judge.curves(loaded, images, settings, points) if points else {}
    if curve:
        from tfdefense import plots

        plots.security_curve(curves, curve, xlabel=f"{norm} size")
        print(f"  {curve}")
    if json:
        about = {"model": str(model), "data": str(data), "split": split, "samples": len(images)}
        _judge.write(json, about, settings, rows, curves)
        print(f"  {json}")


def _write_report(model, data, folder, source, settings, **options):
    """The protocol of `td.report`, with its verdict and checks on the console."""
    for norm in ("linf", "l2"):
        settings[norm] = settings[norm] and console.numbers(f"--{norm}-sizes", settings[norm])
    folder = console.folder(folder)
    from tfdefense.reporting import page, report

    # Told before the work and not after it.
    page.environment()
    loaded, source = console.load_model(model), None if source is None else console.load_model(source)
    name = Path(model).name
    found = report(loaded, data, folder, source=source, progress=True, name=name, **options, **settings)
    print(found.verdict)
    for note in found.content["verdict"]["notes"]:
        print(f"  {note}")
    for check in found.content["checks"]:
        if not check["passed"]:
            print(f"  failed: {check['name']} (allowed: {check['limit']})")
    print(f"  {folder / 'index.html'}")


@app.command(epilog="Example:  tfdefense calibrate defended.keras --data held_out.npz --split all --output calibrated.keras")
@console.command
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

    output, loaded = console.writable(output, (".keras",)), _keras_only(model, "calibrated")
    images = console.load_data(loaded, data, split, samples, None, classes, seed=seed, data_dir=data_dir, download=download)
    rejected = td.calibrate(loaded, images.x, max_rejected=max_rejected, confidence=confidence)
    td.export.export(loaded, output)
    promised = f"Promised: {td.conformal.promise(max_rejected, confidence)}. Judge it on others: it knows these."
    print(f"{output}: rejects {rejected:.1%} of {len(images)} samples of {data} ({split}). {promised}")


@app.command(epilog="Example:  tfdefense export defended.keras defended.onnx")
@console.command
def export(
    model: Model,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Ends in .onnx, .tflite or .keras; anything else is a SavedModel.")],
    format: Annotated[str | None, typer.Option(help="keras, saved_model, onnx or litert, whatever PATH ends in.")] = None,
):
    """Write a model for other programs, with the rejection inside."""
    import tfdefense as td

    written = td.export.export(_keras_only(model, "exported"), path, format)
    total = sum(file.stat().st_size for file in ([written] if written.is_file() else written.rglob("*")) if file.is_file())
    print(f"{written}: {total / 1024:,.0f} KiB")


@app.command(epilog="Example:  tfdefense zoo digits_cnn.dnr --output defended.keras")
@console.command
def zoo(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show the card of one model.")] = None,
    output: Annotated[str | None, typer.Option(metavar="KERAS", help="Write that model to a .keras file.")] = None,
):
    """The models that come with the library: what they are, and how long they hold."""
    from tfdefense import zoo as models

    if name is None:
        if output is not None:
            raise ValueError("`--output` writes one model. Name it: `tfdefense zoo NAME --output model.keras`.")
        console.out().print(console.zoo_table([models.card(each) for each in models.list()]))
        return
    card = models.card(name)
    if output is not None:
        output = console.writable(output, (".keras",))
        write_file(output, lambda new: shutil.copyfile(models.weights(name), new))
        print(output)
        return
    console.out().print(console.card_table(card))


@app.command("check-scene", epilog="Example:  tfdefense check-scene image.png depth.png --model sceneproof.keras")
@console.command
def check_scene(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The picture.")],
    depth: Annotated[str, typer.Argument(metavar="DEPTH", help="Its depth map, as large: a 16-bit grey PNG of millimetres.")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="A model of pictures with depth: a .keras file, or a SavedModel.")],
):
    """Is a picture with depth one of a real scene? Prints real, forged or rejected, and the scores."""
    from tfdefense._scene import check, read_pair

    read_pair(image, depth)  # what is wrong with the files is told before the model takes seconds to load
    said, scores, suspicion, warning = check(console.load_model(model), image, depth, model)
    if warning:
        console.tell(f"warning: {warning}")
    text = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
    limit = "" if suspicion is None else f"; suspicion {suspicion:.3f}, above 0 is rejected"
    print(f"{said}\n  scores: {text}{limit}")


def _keras_only(path, what):
    loaded = console.load_model(path)
    import keras

    if not isinstance(loaded, keras.Model):
        raise ValueError(f"{path} is a SavedModel, which can't be {what} any more. Give the .keras file that it was made from.")
    return loaded


def main():
    """The `tfdefense` program: what is wrong with the command line itself is one line too."""
    try:
        code = app(standalone_mode=False, prog_name="tfdefense")
    except typer.BadParameter.__base__ as error:
        path = getattr(error.ctx, "command_path", "tfdefense")
        console.tell(f"error: {console.one_line(error.format_message())} See: {path} --help")
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        console.tell("Stopped.")
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
