"""Whether attackers from outside take more from the zoo's models than their cards say.

foolbox, ART and a script of its own, which shares no code with the library's attacks, attack each model on logits where rejection
is one class more. Each attack goes on with what the earlier ones have left; a sample that any of them breaks is broken. What
counts is the model's own label of the sample that was found, and its distance.
"""

import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks.zoo import SIZES, divided, unpacked
from evaluation.benchmarks.zoo_entries import ENTRIES
from evaluation.runner.peers import Library, Python, interpreter
from tfdefense._files import write_file

DATASETS = ("digits", "mnist", "cifar10", "notmnist")
TABLE = "outsiders"
# By how much the outsiders' share may lie below the card's.
ALLOWED = 0.02
BEATEN = "beaten: outsiders broke more than the card says"
LEFT_OUT = "an attack is missing"
ROUNDING = 1e-5
KNOWN = 20_000  # training samples at most that the attacker knows


def judge(model, x, y, points, norm, size):
    """Whether each point breaks its sample: within the ball and the bounds, and by the model itself neither right nor rejected."""
    points = np.asarray(points, "float32")
    change = (points.astype("float64") - x).reshape(len(x), -1)
    distance = np.abs(change).max(1) if norm == "linf" else np.linalg.norm(change, axis=1)
    inside = ((points >= 0) & (points <= 1)).reshape(len(x), -1).all(1)
    label = model.predict(points, verbose=0, batch_size=256)["label"]
    return inside & (distance <= size * (1 + ROUNDING)) & (label != y) & (label != -1)


def attacked(context, name, norm, number, python, limit):
    """What each attack leaves of the samples, one after the other, at growing sizes."""
    # They run in another process, and are code of this one's results all the same.
    from evaluation.benchmarks.outsiders import libraries, logits, own, starts, worker  # noqa: F401
    from tfdefense import zoo

    *_, test = divided(context, ENTRIES[name])
    x, y = np.asarray(test.x[:number], "float32"), np.asarray(test.y[:number], "int32")
    model = zoo.load(name)
    found = {"left": {}, "errors": {}}
    with tempfile.TemporaryDirectory() as folder:
        samples = Path(folder) / "samples.npz"
        known = _known(context, ENTRIES[name])
        write_file(samples, lambda new: np.savez(new, x=x, y=y, **known))
        arguments = (zoo.weights(name), samples, folder)
        library = Library(name, python, "evaluation.benchmarks.outsiders.worker", arguments, limit)
        try:
            if library.trouble:
                raise ValueError(f"Expected an attacker of {name} in {python}. Received: {library.trouble}")
            found |= {"versions": library.about["versions"], "surrogate": library.about["surrogate"]}
            broken = judge(model, x, y, x, norm, 0.0)
            for size in SIZES[context.dataset][norm]:
                for attack in library.about["attacks"][norm]:
                    left = np.flatnonzero(~broken)
                    answer = library.ask(attack=attack, norm=norm, size=size, rows=left.tolist()) if len(left) else {}
                    if "error" in answer:
                        found["errors"][f"{attack}, {size}"] = answer["error"]
                        context.say(f"{name}, {norm} {size:g}, {attack}: {answer['error']}")
                    elif answer:
                        with np.load(answer["file"]) as file:
                            broken[left] = judge(model, x[left], y[left], file["x_adv"], norm, size)
                    found["left"].setdefault(str(size), {})[attack] = float(1 - broken.mean())
        finally:
            library.stop()
    return found


def _known(context, entry):
    """What the attacker knows of the data: training samples, none of which is attacked."""
    from tfdefense import data

    train = data.load(entry.dataset, "train", data_dir=context.data_dir, limit=KNOWN)
    return {"train_x": np.asarray(train.x, "float32"), "train_y": np.asarray(train.y, "int32")}


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One model, by its name.")] = None,
    peers_python: Python = None,
    limit: Annotated[int, typer.Option(help="Seconds that one attack may take at one size.", min=1)] = 1800,
):
    from tfdefense import zoo

    context.refuse_a_part(only)
    names = [name for name in zoo.list() if zoo.card(name).data == context.dataset and only in (None, name)]
    if not names:
        raise ValueError(f"`--only` must be a model of the zoo for {context.dataset}. Received {only!r}.")
    number = context.samples_or(100, 10)
    number = min(number, *(row["n"] for name in names for row in zoo.card(name).attacked))
    context.settings.update(samples=number)
    # A card's weights may change while the code stays.
    keys = {f"{name} ({zoo.card(name).sha256[:8]}), {norm}": (name, norm) for name in names for norm in SIZES[context.dataset]}
    parts = {key: (attacked, context, *what, number, interpreter(peers_python), limit) for key, what in keys.items()}
    for key, found in context.parts(parts).items():
        context.settings.update(found["versions"])
        add_rows(context, zoo.card(keys[key][0]), keys[key][1], number, found)


def add_rows(context, card, norm, number, found):
    """What each attack left, the worst case, with a flag where the card claims too much, and the card's share of these samples."""
    claimed = {row["epsilon"]: row for row in card.attacked if row["norm"] == norm}
    missing = [LEFT_OUT] if found["errors"] or set(found["versions"]) != {"foolbox", "art"} else []
    for size, left in ((float(size), left) for size, left in found["left"].items()):
        about = {"system": card.name, "knowledge": "adaptive", "norm": norm, "epsilon": size}
        for attack, share in left.items():
            context.row(
                TABLE, "robust accuracy", share, **about, attack=attack, n=number, note=found["errors"].get(f"{attack}, {size}", "")
            )
        worst, row = min(left.values()), claimed[size]
        card_left = float(unpacked(row["withstood"], number).mean())
        beaten = [BEATEN] if worst < card_left - ALLOWED - 1e-9 else []
        note = "gradients of the differentiable surrogate" if found["surrogate"] else ""
        flags = (*beaten, *missing)
        context.row(TABLE, "robust accuracy", worst, **about, attack="worst case", n=number, flags=flags, note=note)
        context.row(TABLE, "robust accuracy", card_left, **about, attack="card", n=number, suite=row["suite"])
