"""`tfdefense attack`: adversarial samples for a model."""

import sys
from typing import Annotated

import typer

from tfdefense.cli._app import command
from tfdefense.cli._attacks import (
    ATTACKS,
    OBJECTIVES,
    build_attack,
    check_name,
    objective_named,
    on_surrogate,
    starts_named,
    surrogate_named,
)
from tfdefense.cli._console import out, outcome_table
from tfdefense.cli._inputs import load_data, load_model
from tfdefense.cli._options import Bounds, Cache, Classes, Data, DataDir, Download, Model, Norm, Ray, Seed, Source, Split, writable


@command("tfdefense attack model.keras --data mnist --attack pgd --epsilon 0.2 --starts all --output adv.npz")
def attack(
    model: Model,
    data: Data,
    attack: Annotated[str, typer.Option(help=f"One of {', '.join(ATTACKS)}.")] = "pgd",
    epsilon: Annotated[float | None, typer.Option(help="Size of the ball, in the units of the pixels.")] = None,
    norm: Norm = None,
    steps: Annotated[int | None, typer.Option(help="Iterations.")] = None,
    step_size: Annotated[float | None, typer.Option(help="Length of one step.")] = None,
    sigma: Annotated[float | None, typer.Option(help="For dynamic: 0 attacks the classifier alone, 1 the detector.")] = None,
    queries: Annotated[int | None, typer.Option(help="How often an attack without gradients may ask the model.")] = None,
    objective: Annotated[
        str | None,
        typer.Option(help=f"What the search makes small: {', '.join(OBJECTIVES)}. By default the one against a defense."),
    ] = None,
    starts: Annotated[
        str | None, typer.Option(help="Where to begin: all, or some of sample,random,interpolated,base with commas.")
    ] = None,
    restarts: Annotated[int | None, typer.Option(help="Random starts.")] = None,
    target: Annotated[
        str | None, typer.Option(help="Class to be classified as: a number, least_likely or most_likely. By default any wrong one.")
    ] = None,
    oblivious: Annotated[bool, typer.Option("--oblivious", help="Craft on the undefended model: an oblivious attacker.")] = False,
    surrogate: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="Where a defense has no gradient: bpda takes that of its differentiable surrogate, smooth attacks the surrogate.",
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
    cache: Cache = None,
    ray: Ray = None,
    data_dir: DataDir = None,
    download: Download = False,
):
    """Attack a model. The attack knows the defense, unless --oblivious."""
    import tfdefense as td

    output, picture = writable(output, (".npz",)), writable(picture, (".png", ".pdf", ".svg"))
    check_name("attack", attack, ATTACKS)
    check_name("objective", objective, OBJECTIVES)
    surrogate = surrogate_named(surrogate)
    loaded, source = load_model(model), None if source is None else load_model(source)
    chosen = {"epsilon": epsilon, "norm": norm, "steps": steps, "step_size": step_size, "restarts": restarts, "queries": queries}
    chosen |= {"objective": objective_named(objective), "starts": None, "seed": seed or None, "sigma": sigma}
    build_attack(attack, **chosen)
    images = load_data(loaded, data, split, samples, bounds, classes, seed=seed, data_dir=data_dir, download=download)
    bounds = images.bounds
    if oblivious and source is None:
        _check_base(model, loaded)
    goal, images = _target(target, images)
    chosen["starts"] = starts_named(starts, loaded, images.y, source)
    crafting = on_surrogate(build_attack(attack, **chosen), surrogate)
    crafting = td.attacks.Transfer(crafting, source) if oblivious else crafting
    clean = td.evaluate(loaded, images.x, images.y)
    options = {"bounds": bounds, "batch_size": batch_size, "progress": sys.stdout.isatty(), "cache": cache, "ray": ray}
    result = crafting(loaded, images.x, images.y, goal, **options)
    # Not the attack's own labels: the model is asked again.
    attacked = td.evaluate(loaded, result, images.y)

    title = f"{attack} on {model}, {len(images)} samples of {data}{', oblivious of the defense' if oblivious else ''}"
    out().print(outcome_table(title, [("clean", clean), ("adversarial", attacked)]))
    print(f"  {strength(result, goal)}")
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
        raise ValueError(f"{path} has no defense to be oblivious of. Leave --oblivious out, or give --source MODEL to craft on.")


def _target(target, images):
    """The target classes, and the samples that are not of that class already."""
    import numpy as np

    if target is None or target in ("least_likely", "most_likely"):
        return target, images
    if not target.isdecimal():
        raise ValueError(f"--target must be a class number, least_likely or most_likely. Received: {target!r}.")
    images = images.take(images.y != int(target))
    if len(images) == 0:
        raise ValueError(f"All samples are of class {target} already. Choose another --target, or more --samples.")
    return np.full(len(images), int(target)), images


def strength(result, goal):
    """One line on how often an attack succeeded, how far it went and how long it took."""
    import numpy as np

    what = "not rejected and " + ("misclassified" if goal is None else "classified as the target")
    text = f"{result.success.mean():.1%} {what}"
    if result.success.any():
        text += f", at {result.norm} distance {np.median(result.distance[result.success]):.4g} (median)"
    return f"{text}, {result.steps.mean():.0f} steps"
