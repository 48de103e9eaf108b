"""The models of the zoo: builds each, measures it, writes its weights and its card.

Its robust accuracy is that against an adaptive attacker: the worst case over the suite of the zoo, from all starts.
"""

import dataclasses
import functools
import hashlib
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks import zoo_photos, zoo_scene
from evaluation.benchmarks.zoo_entries import ENTRIES, SUITE
from evaluation.papers.intervals import wilson
from evaluation.papers.sceneproof.setting import MASK
from evaluation.runner import results
from evaluation.runner.parts import run_parts
from tfdefense._files import write_file, write_text

DATASETS = ("digits", "mnist", "cifar10", "notmnist", "nyu_depth_v2_small", zoo_photos.DATASET)
SIZES = {
    "digits": {"linf": (0.1, 0.2), "l2": (0.5, 1.0)},
    "mnist": {"linf": (0.1, 0.2), "l2": (1.0, 2.0)},
    "cifar10": {"linf": (0.01, 0.02), "l2": (0.25, 0.5)},
    "notmnist": {"linf": (0.05, 0.1), "l2": (0.5, 1.0)},
    "nyu_depth_v2_small": {"linf": zoo_scene.SIZES},
    zoo_photos.DATASET: zoo_photos.SIZES,
}
LIMIT = 4 * 2**20  # bytes of a file in the repository


def divided(context, entry):
    """What fits the defense, what calibrates it, and the test samples that no part of it has seen."""
    from tfdefense import data

    if entry.scenes:
        return zoo_scene.divided(zoo_scene.setting(context))
    if entry.body:
        return zoo_photos.divided(context, entry)
    train, test = (data.load(entry.dataset, part, data_dir=context.data_dir) for part in ("train", "test"))
    rng = np.random.default_rng(0)
    seen, unseen = rng.permutation(entry.seen), entry.seen + rng.permutation(len(train.x) - entry.seen)
    fitted = (seen if entry.fitted_on == "seen" else unseen)[: entry.fitted]
    if len(unseen):
        calibrated = np.setdiff1d(unseen, fitted, assume_unique=True)[: entry.calibrated]
        return train.take(fitted), train.take(calibrated), test
    held_out, test = test.divide(2000)
    return train.take(fitted), held_out, test


def build(context, entry, fitted, calibrated):
    import keras

    import tfdefense.layers  # noqa: F401 - the network may end in one of them
    from tfdefense import contract

    if entry.scenes:
        return entry.make(zoo_scene.setting(context))
    if entry.body:
        network = zoo_photos.network(context, fitted)
    else:
        network = keras.models.load_model(context.network(entry.recipe, **entry.settings), compile=False)
    defended = entry.make(network)
    contract.name_classes(defended, fitted.classes)
    return entry.fitting.fit(defended, fitted, calibrated)


def clean(model, test):
    import tfdefense as td

    outcomes = td.evaluate(model, test.x, test.y)
    return {"accuracy": outcomes.accuracy, "false_positive_rate": outcomes.rejection, "n": len(outcomes)}


def rejected(model, sets):
    """The share of each OOD set that is rejected, and of how many images."""
    import tfdefense as td

    labels = {name: np.asarray(td.view.decide(model, x).label) for name, x in sets.items()}
    return {name: {"rejected": float((label == -1).mean()), "n": len(label)} for name, label in labels.items()}


def attacked(samples, model, norm, sizes, number, steps, name=SUITE, mask=None):
    """Robust accuracy at each size in the worst case over the suite, and which share of the samples each attack broke first."""
    from tfdefense.attacks import substitute_network, suite

    train, test = samples()
    images, found, rows = test.take(slice(0, number)), None, []
    options = {} if steps is None else {"steps": steps}
    if mask is None:
        # The attacker has a network of his own, trained on the same data; the suite of scenes has no use for one.
        options["substitute"] = substitute_network(train.x, train.y, len(train.classes), bounds=train.bounds)
    for size in sizes:
        # What is broken within a size is broken within every larger one.
        found = suite(name).attack(size, norm, **options)(model, images.x, images.y, after=found, mask=mask)
        finders, counts = np.unique(found.found_by[found.success], return_counts=True)
        broken = {finder: count / len(images.x) for finder, count in zip(finders.tolist(), counts.tolist(), strict=True)}
        shares = {"robust_accuracy": float((~found.success).mean()), "broken_by": broken, "passes": float(found.steps.mean())}
        rows.append(shares | {"withstood": packed(~found.success), "n": len(images.x)})
    return {"sizes": rows, "steps": options.get("steps", 50)}


def packed(each):
    """A yes or no of each sample as a text of a bit each, the first sample first."""
    return np.packbits(each).tobytes().hex()


def unpacked(text, number):
    """The first ones of what `packed` wrote."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), "uint8"))[:number].astype(bool)


def deflated(path):
    """The bytes of a `.keras` file with its members compressed: the codes that SVMs hold have few values. Keras reads both."""
    made = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
        for member in old.infolist():
            # Not the time of day: the same model gives the same bytes.
            new.writestr(zipfile.ZipInfo(member.filename), old.read(member.filename), zipfile.ZIP_DEFLATED, 9)
    return made.getvalue()


def fitted(context, name, entry, model, measured, directory):
    """Writes the weights of a new model and gives its card."""
    from tfdefense import zoo
    from tfdefense.contract import bounds_of, class_names

    with tempfile.TemporaryDirectory() as folder:
        body = zoo.imagenet.empty(model) if entry.body else None
        model.save(Path(folder) / "model.keras")
        content = deflated(Path(folder, "model.keras"))
        if body is not None:
            zoo.imagenet.refill(model, body)
    small = len(content) <= LIMIT
    path = (directory if small else results.UNTRACKED / "zoo") / f"{name}.keras"
    write_file(path, lambda new: new.write_bytes(content))
    if not small:
        context.say(f"{name}: {len(content) / 2**20:.1f} MiB are too large for the repository; they are in {path}")
    bounds = bounds_of(model)
    outputs = model(zoo.probe(model.input_shape[1:], bounds))
    return zoo.Card(
        name=name,
        summary=entry.summary,
        architecture=f"{entry.recipe}: {model.count_params():,} numbers with the defense",
        defense=entry.defense,
        recipe=entry.command,
        data=entry.dataset,
        bounds=bounds,
        golden={key: np.asarray(outputs[key], "float64").round(5).tolist() for key in ("scores", "suspicion")},
        file=f"{name}.keras" if small else None,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        licence="Apache-2.0",
        classes=list(class_names(model) or ()),
        body=entry.body,
        **measured,
    )


def run(
    context,
    *,
    only: Annotated[str | None, typer.Option(help="One model, by its name.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient steps of an attack; the suite's, or 5 in a quick run.", min=1)] = None,
    fit: Annotated[
        bool, typer.Option(help="Whether to train and fit the models anew, or to measure those that are there.")
    ] = False,
    measure: Annotated[bool, typer.Option(help="Whether to measure anew, or to tell what the cards say.")] = True,
):
    from tfdefense import zoo

    entries = {name: entry for name, entry in ENTRIES.items() if entry.dataset == context.dataset and only in (None, name)}
    if not entries:
        known = ", ".join(name for name, entry in ENTRIES.items() if entry.dataset == context.dataset)
        raise ValueError(f"`--only` must be one of {known} on {context.dataset}. Received {only!r}.")
    number, steps = context.samples_or(500, 20), steps or (5 if context.quick else None)
    directory = context.output / "zoo" if context.quick else zoo.CARDS
    if measure:
        context.settings.update(suite=", ".join(dict.fromkeys(entry.suite for entry in entries.values())), samples=number)
        # No parts of the cache: a card is written anew whatever an earlier run has written.
        run_parts({name: (make_card, context, name, number, steps, directory, fit) for name in entries}, context.executor)
    for name in ENTRIES:
        if (directory / f"{name}.json").exists():
            _rows(context, zoo.card(name, cards=directory))


def make_card(context, name, number, steps, directory, fit):
    """Fits a model, or takes the one that is there; measures it and writes its card."""
    from tfdefense import zoo

    entry = ENTRIES[name]
    samples = functools.cache(lambda: divided(context, entry))
    fit = fit or not (zoo.CARDS / f"{name}.keras").exists()
    model = context.model(f"model {name}", build, context, entry, *samples()[:2]) if fit else zoo.load(name)
    rows = []
    mask = np.array(MASK) if entry.scenes else None
    for norm, sizes in SIZES[context.dataset].items():
        given = (lambda: (_train(context, entry), samples()[2]), model, norm, sizes, number, steps, entry.suite, mask)
        found = context.part(f"{name}, {norm}", attacked, *given)
        about = {"suite": entry.suite, "steps": found["steps"], "norm": norm}
        about |= {"changes": zoo_scene.CHANGES} if entry.scenes else {}
        rows += [about | {"epsilon": size} | at for size, at in zip(sizes, found["sizes"], strict=True)]
    measured = {"clean": context.part(f"{name}, clean", clean, model, samples()[2]), "attacked": rows}
    if entry.scenes:
        measured["unfamiliar"] = context.part(f"{name}, unfamiliar", zoo_scene.unfamiliar, zoo_scene.setting(context), model)
    if entry.ood is not None:
        measured["ood"] = context.part(f"{name}, OOD sets", rejected, model, entry.ood(context))
    measured |= {"commit": context.commit, "versions": results.versions()}
    # The card last, so that it never speaks of weights that are not there.
    card = fitted(context, name, entry, model, measured, directory) if fit else dataclasses.replace(zoo.card(name), **measured)
    write_text(directory / f"{name}.json", json.dumps(dataclasses.asdict(card), indent=1) + "\n")


def _train(context, entry):
    from tfdefense import data

    return data.load(entry.dataset, "train", data_dir=context.data_dir)


def _rows(context, card):
    """What a card says, of whatever run it is: one model can be measured anew alone."""
    if card.data != context.dataset:
        return
    note = f"measured at commit {card.commit}"
    for metric, name in (("accuracy", "accuracy"), ("false-positive rate", "false_positive_rate")):
        context.row("zoo", metric, card.clean[name], system=card.name, n=card.clean["n"], note=note)
    for row in card.attacked:
        attack = {"attack": "worst case", "knowledge": "adaptive", "norm": row["norm"], "epsilon": row["epsilon"]}
        attack |= {"changes": row.get("changes")}
        about = {"system": card.name, "suite": row["suite"], "steps": row["steps"], "n": row["n"]}
        context.row("zoo", "robust accuracy", row["robust_accuracy"], **attack, **about, note=note)
    for name, of in card.ood.items():
        interval = wilson(of["rejected"], of["n"])
        context.row("zoo", "rejection rate", of["rejected"], system=card.name, ood=name, n=of["n"], interval=interval, note=note)
    for kind, share in card.unfamiliar.items():
        context.row("zoo", "F->T", share, system=card.name, forgery=kind, note=note)
