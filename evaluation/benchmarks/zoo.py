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
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from evaluation.benchmarks import zoo_photos, zoo_scene
from evaluation.benchmarks.board.fitting import Fitting
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
SUITE = "standard-1"
LIMIT = 4 * 2**20  # bytes of a file in the repository


@dataclasses.dataclass(frozen=True)
class Entry:
    """A model of the zoo.

    Args:
        recipe: Name of the recipe of its network, with its settings.
        make: Gives the attached defense: `make(network)`.
        seen: So many training samples, the first ones, were shown to the network. What calibrates the defense was not: it
            comes from the others, or, where there are none, from the test samples, which then count in no number.
        fitted, calibrated: So many samples fit the defense, and at most so many others calibrate it.
        fitted_on: "seen" ones, as a density of the training set asks for, or "unseen" ones.
        fitting: How they do.
        suite: Whose worst case it is measured under.
        scenes: Whether it is the model of pictures with depth, which `zoo_scene` makes: an attacker may change depth alone.
        body: Name of a plain network of the zoo that a head is fitted on, `recipe` too: its weights are not shipped again.
    """

    dataset: str
    summary: str
    defense: str
    recipe: str
    make: Callable
    seen: int
    settings: dict = dataclasses.field(default_factory=dict)
    fitted: int = 1_000
    calibrated: int = 2_000
    fitted_on: str = "seen"
    fitting: Fitting = Fitting()
    suite: str = SUITE
    scenes: bool = False
    body: str | None = None

    @property
    def command(self):
        if self.body:
            return f"python -m evaluation zoo --dataset {self.dataset} --fit"
        options = [f"--{name.replace('_', '-')} {value}" for name, value in self.settings.items()]
        return " ".join(["python -m training", self.recipe, *options])


def _attach(name, *arguments, **options):
    """Attaches the defense of that name in `tfdefense`."""

    def make(network):
        import tfdefense as td

        return getattr(td, name)(*arguments, **options).attach(network)

    return make


_COMPRESSED = Fitting(vectors=300)
_RCE_SIGMA = (0.1 / 0.26) ** 0.5
_SVMS = "Deep Neural Rejection on the last three layers, SVMs compressed to 300 vectors"
_DENSITY = "K-density in the last hidden layer, on a network trained with reverse cross-entropy"
_BRANCH = "a detector branch, trained against the dynamic adversary, benign perturbations labelled clean"
_DIGITS = {"dataset": "digits", "seen": 1_100, "settings": {"train_samples": 1_100}}
_DIGITS_DNR = Entry(
    **_DIGITS,
    summary="8x8 digits, rejecting by RBF-SVMs",
    defense=_SVMS,
    recipe="digits",
    make=_attach("DeepNeuralRejection", ["conv_2", "dense_1", "logits"]),
    fitting=_COMPRESSED,
)
_ATTACKED = {"summary": "8x8 digits, adversarially trained in l2, rejecting by RBF-SVMs", "recipe": "digits_pgd"}
# Nobody looked at these while the suites were made: letters tell whether those find as much on another set.
_LETTERS = {"dataset": "notmnist", "recipe": "mnist_wong", "seen": 4_000}
_LETTERS |= {"settings": {"dataset": "notmnist", "train_samples": 4_000}}
ENTRIES = {
    "digits_cnn.dnr": _DIGITS_DNR,
    "digits_cnn_attacked.dnr": dataclasses.replace(_DIGITS_DNR, **_ATTACKED),
    "digits_resnet.rce": Entry(
        **_DIGITS,
        summary="8x8 digits, rejecting by density",
        defense=_DENSITY,
        recipe="digits_resnet_rce",
        make=_attach("DensityDefense", _RCE_SIGMA, max_points=1_100),
        fitted=1_100,
    ),
    "mnist_cnn.dnr": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by RBF-SVMs",
        defense=_SVMS,
        recipe="mnist_dnr",
        make=_attach("DeepNeuralRejection", ["dense_1", "dense_2", "logits"]),
        seen=30_000,
        fitted=10_000,
        fitted_on="unseen",
        fitting=_COMPRESSED,
    ),
    "mnist_cnn.safetynet": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by discrete codes",
        defense="SafetyNet: an RBF-SVM on quaternary codes of each of two dense layers, fitted on BIM",
        recipe="mnist_dnr",
        make=_attach("SafetyNet", ["dense_1", "dense_2"]),
        seen=30_000,
        # All of its samples are stored, as codes; more of them would be too large for the repository.
        fitted=2_500,
        fitting=Fitting(points=1_500),
    ),
    "mnist_cnn.detector": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by a detector branch",
        defense=_BRANCH,
        recipe="mnist_dnr",
        make=_attach("AdversaryDetector", "conv_2", width=16, seed=0, depth=4),
        seen=30_000,
        fitted=10_000,
        fitting=Fitting(shown=60_000),
    ),
    "mnist_cuda.dustbin": Entry(
        dataset="mnist",
        summary="MNIST, with a class for everything else",
        defense="the dustbin class, trained on letters of NotMNIST and on samples between the classes",
        recipe="mnist_cuda_interpolated",
        make=_attach("DustbinDefense", threshold=None),
        seen=50_000,
    ),
    "mnist_resnet8.rce": Entry(
        dataset="mnist",
        summary="MNIST, rejecting by density",
        defense=_DENSITY,
        recipe="mnist_resnet_rce",
        make=_attach("DensityDefense", _RCE_SIGMA, max_points=5_000),
        seen=60_000,
        settings={"depth": 8},
        fitted=60_000,
    ),
    "notmnist_cnn.dnr": Entry(
        **_LETTERS,
        summary="letters of NotMNIST, rejecting by RBF-SVMs",
        defense=_SVMS,
        make=_attach("DeepNeuralRejection", ["conv_2", "dense_1", "logits"]),
        fitted=1_500,
        fitted_on="unseen",
        fitting=_COMPRESSED,
    ),
    "notmnist_cnn.detector": Entry(
        **_LETTERS,
        summary="letters of NotMNIST, rejecting by a detector branch",
        defense=_BRANCH,
        make=_attach("AdversaryDetector", "conv_1", width=16, seed=0, depth=4),
        fitted=4_000,
        fitting=Fitting(attacked=0.1, shown=60_000),
    ),
    "cifar10_resnet8.rce": Entry(
        dataset="cifar10",
        summary="CIFAR-10, rejecting by density",
        defense=_DENSITY,
        recipe="cifar10_resnet_rce",
        make=_attach("DensityDefense", _RCE_SIGMA, max_points=5_000),
        seen=50_000,
        settings={"depth": 8, "epochs": 10},
        fitted=50_000,
    ),
    zoo_scene.NAME: Entry(
        dataset="nyu_depth_v2_small",
        summary="is a picture with depth one of a real scene?",
        defense="SafetyNet: RBF-SVMs on quaternary codes of fc7, fc6 and pool5, fitted on attacks on depth",
        recipe="nyu_scene",
        make=zoo_scene.build,
        seen=650,
        suite=zoo_scene.SUITE,
        scenes=True,
    ),
    zoo_photos.NAME: Entry(**zoo_photos.ABOUT, make=_attach("DustbinDefense", threshold=None)),
}


def divided(context, entry):
    """What fits the defense, what calibrates it, and the test samples that no part of it has seen."""
    from tfdefense import data

    if entry.scenes:
        return zoo_scene.divided(zoo_scene.setting(context))
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
    for kind, share in card.unfamiliar.items():
        context.row("zoo", "F->T", share, system=card.name, forgery=kind, note=note)
