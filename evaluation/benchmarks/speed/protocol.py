"""The cost of the attacks in passes of the model, beside foolbox, ART and cleverhans.

A pass is one compiled forward and backward run of the model (the gradient of the summed cross-entropy at the input) on
the same batch, measured in the same process right before and after each attack. Costs are CPU time of the process, all
threads included, over that of a pass; the ratio of wall times stands beside. The libraries take turns, each in its own
process; runs of up to 30 seconds are repeated and the median counts. Compiling is left out: each attack first runs a
few steps on the same shapes. All get the same samples, which the model has right, and the same settings.
"""

import statistics
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from evaluation.runner.peers import Library, Python, interpreter
from tfdefense._files import write_file

DATASETS = ("mnist", "digits")
RECIPES = {"mnist": "mnist_carlini", "digits": "digits"}
LIBRARIES = ("tfdefense", "foolbox", "art", "cleverhans")
PATIENCE = 30
REPEATS = 3
# By key: the attack and its norm.
ATTACKS = {"pgd": ("PGD", "linf"), "cw": ("Carlini-Wagner", "l2"), "deepfool": ("DeepFool", "l2"), "jsma": ("JSMA", "l2")}
SETTINGS = {
    "pgd": {"epsilon": 0.2, "steps": 40, "step_size": 0.0125},
    "cw": {"steps": 200, "binary_search_steps": 5, "learning_rate": 0.01, "initial_c": 1.0},
    "deepfool": {"steps": 50, "overshoot": 0.02, "candidates": 5},
    "jsma": {"theta": 1.0, "gamma": 0.1},
}
QUICK = {"cw": {"steps": 20, "binary_search_steps": 2}, "deepfool": {"steps": 10}}
WARM = {
    "pgd": {"steps": 2},
    "cw": {"steps": 2, "binary_search_steps": 1},
    "deepfool": {"steps": 2},
    "jsma": {"gamma": 0.004},
}
# no result after 7 minutes on 16 images: a whole batch would tell nothing more
FEWER = {("art", "cw"): 16}


def start(name, python, model, samples, limit):
    """A library with the model and its samples."""
    # cleverhans calls the optimizers of Keras 2; the model itself is loaded by Keras 3 all the same
    legacy = {"TF_USE_LEGACY_KERAS": "1"} if name == "cleverhans" else {}
    return Library(name, python, "evaluation.benchmarks.speed.worker", (name, model, samples), limit, legacy)


def choose_samples(model_path, dataset, number, data_dir, path):
    """The first test samples that the model gets right, with a random other class as the target of each."""
    import keras
    import numpy as np

    from tfdefense import data

    test = data.load(dataset, "test", data_dir=data_dir)
    x, y = np.asarray(test.x[: 2 * number + 100]), np.asarray(test.y[: 2 * number + 100])
    model = keras.models.load_model(model_path, compile=False)
    right = np.flatnonzero(model.predict(x, verbose=0).argmax(1) == y)[:number]
    if len(right) < number:
        raise ValueError(f"`--samples` must be at most {len(right)} on {dataset}. Received {number}.")
    classes = model.outputs[0].shape[-1]
    target = (y[right] + np.random.default_rng(0).integers(1, classes, number)) % classes
    chosen = {"x": x[right].astype("float32"), "y": y[right].astype("int32"), "target": target.astype("int32")}
    write_file(path, lambda new: np.savez(new, **chosen))


def in_turns(libraries, attack, settings, samples, say, repeats=REPEATS):
    """Each library's repeats of one attack, taken in turns; a library that fails or is slow drops out."""
    found = {library.name: [] for library in libraries if attack in library.about["attacks"]}
    for repeat in range(repeats):
        for library in libraries:
            name = library.name
            if name not in found:
                continue
            if repeat and ("error" in found[name][-1] or found[name][-1]["wall"] > PATIENCE):
                continue
            number = min(samples, FEWER.get((name, attack), samples))
            answer = {} if repeat else library.ask(attack=attack, settings=settings | WARM[attack], samples=number, warm=True)
            if "error" not in answer:
                answer = library.ask(attack=attack, settings=settings, samples=number, warm=False)
            found[name].append(answer | {"samples": number})
            say(f"{ATTACKS[attack][0]:14} {name:11} {answer.get('error') or format(answer['passes'], '.1f') + ' passes'}")
    return found


def summary(runs):
    """The medians of the repeats that gave a result; the rest of their numbers are equal or nearly so."""
    done = [run for run in runs if "error" not in run]
    if not done:
        return runs[-1]
    middle = {key: statistics.median(run[key] for run in done) for key in ("passes", "wall_passes", "cpu", "pass_cpu")}
    return done[-1] | middle | {"repeats": len(done)}


def add_rows(context, attack, found):
    name, norm = ATTACKS[attack]
    for library, runs in found.items():
        result = summary(runs)
        about = {"system": library, "attack": name, "norm": norm, "n": result["samples"]}
        if "error" in result:
            context.row("speed.attacks", "passes", None, **about, note=result["error"])
            continue
        numbers = {
            "passes": result["passes"],
            "wall passes": result["wall_passes"],
            "CPU seconds": result["pass_cpu"],
            "iterations": result["iterations"],
            "success rate": result["success"],
            "target rate": result.get("on_target"),
            "mean distance": result[norm],
        }
        outside = attack == "pgd" and result["largest_linf"] > SETTINGS["pgd"]["epsilon"] + 1e-5
        flags = ("left its ball or the bounds",) if outside or not result["in_bounds"] else ()
        for metric, value in numbers.items():
            if value is not None:
                of = {"of": "a pass"} if metric == "CPU seconds" else {}
                context.row("speed.attacks", metric, value, **about, **of, repeats=result["repeats"], flags=flags)


def run(
    context,
    *,
    peers_python: Python = None,
    limit: Annotated[int, typer.Option(help="Seconds that a library may take for one attack.", min=1)] = 420,
):
    number = context.samples_or(128, 32)
    attacks = {name: settings | (QUICK.get(name, {}) if context.quick else {}) for name, settings in SETTINGS.items()}
    context.settings.update(
        {" ".join(ATTACKS[name]): ", ".join(f"{k} {v}" for k, v in settings.items()) for name, settings in attacks.items()}
    )
    context.settings["seconds at most"] = limit
    model = context.network(RECIPES[context.dataset])
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npz"
        choose_samples(model, context.dataset, number, context.data_dir, samples)
        libraries = []
        try:
            for name in LIBRARIES:
                library = start(name, sys.executable if name == "tfdefense" else interpreter(peers_python), model, samples, limit)
                trouble = library.trouble
                if trouble and name == "tfdefense":
                    raise ValueError(f"Expected tfdefense to run its attacks on {model.name}. Received: {trouble}")
                if trouble:
                    context.say(f"Left out: {name}, {trouble}. Install it where `--peers-python` points.")
                    library.stop()
                    continue
                context.settings[name] = library.about["version"]
                libraries.append(library)
            for attack, settings in attacks.items():
                found = context.part(attack, in_turns, libraries, attack, settings, number, context.say)
                add_rows(context, attack, found)
        finally:
            for library in libraries:
                library.stop()
