"""What the commands share: errors in one line, models and data from paths and names, attacks from options."""

import contextlib
import dataclasses
import difflib
import functools
import os
import time
import traceback
import warnings
from pathlib import Path

import typer
from rich.console import Console

from tfdefense._formats import check_format
from tfdefense._quiet import quiet
from tfdefense._untrusted import check_file, check_keras_file, check_saved_model, readable

ATTACKS = {
    "fgsm": "FGSM",
    "bim": "BIM",
    "pgd": "PGD",
    "ilcm": "ILCM",
    "orthogonal-pgd": "OrthogonalPGD",
    "dynamic": "DynamicAdversary",
    "deepfool": "DeepFool",
    "jsma": "JSMA",
    "cw": "CarliniWagner",
    "square": "Square",
    "hop-skip-jump": "HopSkipJump",
}
SURROGATES = ("smooth", "straight")
OBJECTIVES = ("cross-entropy", "margin", "logsumexp", "evade", "maximum-confidence", "evade-raw")


def out():
    return Console(highlight=False)


def tell(text):
    """A line on stderr, whole however narrow the terminal is."""
    Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(text)


def command(function):
    """Turns what a user did wrong into one line on stderr and exit code 2, and keeps TensorFlow quiet."""

    @functools.wraps(function)
    def guarded(*args, **kwargs):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                warnings.showwarning = _show_warning
                return function(*args, **kwargs)
        except KeyboardInterrupt:
            tell("Stopped. What was not finished has not been written.")
            raise typer.Exit(130) from None
        except (typer.Exit, typer.Abort, typer.BadParameter.__base__):
            raise
        except Exception as error:
            if os.environ.get("TFDEFENSE_TRACEBACK") == "1":
                traceback.print_exc()
            tell(f"error: {_explained(error, kwargs.values())}")
            raise typer.Exit(2) from None

    return guarded


def _explained(error, values):
    """The sentence of an error that was foreseen. Any other is a parser's own: its kind, and the files that it may be about."""
    if isinstance(error, ValueError | OSError | ImportError) and not isinstance(error, UnicodeError):
        return one_line(error)
    files = [value for value in values if isinstance(value, str) and os.path.exists(value)]
    about = f" Files: {', '.join(files)}." if files else ""
    if isinstance(error, MemoryError):
        return f"the memory does not suffice.{about} Take fewer or smaller samples."
    kind = type(error).__name__
    said = "" if one_line(error) == kind else f": {one_line(error)[:300]}"
    return f"unexpected {kind}{said}.{about} This is a bug: please report it with the traceback that TFDEFENSE_TRACEBACK=1 shows."


def one_line(error):
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {' '.join(error.strerror.split())}."
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(message, category, filename, lineno, file=None, line=None):
    if f"{os.sep}tfdefense{os.sep}" in filename or str(message).startswith(tuple(ATTACKS.values())):
        tell(f"warning: {one_line(message)}")


def _start_tensorflow():
    """Seconds of work: done once what can be checked without it has been checked."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with quiet():
        import tensorflow as tf

        # The search for a GPU is what talks; it happens at the first use otherwise.
        tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


def load_model(path, sound=True):
    """A Keras model from a `.keras` file, or a SavedModel from its directory.

    Args:
        path: Where it lies.
        sound: Whether a defended `.keras` file is refused where a weight or a threshold is not finite, as `td.load` refuses it.
    """
    path = Path(path)
    _check_model(path)
    _start_tensorflow()
    if path.is_dir():
        import tensorflow as tf

        with readable(path, "a SavedModel"), quiet():
            return tf.saved_model.load(str(path))
    from tfdefense.contract import as_defended, check_sound, is_defended, read

    with quiet():
        model = read(path)
    if not is_defended(model):
        return model
    if sound:
        check_sound(model)
    return as_defended(model)


def _check_model(path):
    if not path.exists():
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else [], n=1)
        hint = f" Did you mean {path.parent / near[0]}?" if near else ""
        raise FileNotFoundError(f"There is no model {path}.{hint}")
    if path.is_file():
        check_format(path)
    if path.is_dir():
        check_saved_model(path)
    elif check_file(path).suffix != ".keras":
        raise ValueError(f"Expected a .keras file or a SavedModel directory. Received: {path}.")
    else:
        check_keras_file(path)


def load_data(model, name, split, samples, bounds, classes, *, seed=0, data_dir=None, download=False):
    """Images by name or path, with their values moved into the bounds of a model and their classes numbered as its are."""
    from tfdefense._data_for import load_for

    options = {"limit": samples, "seed": seed, "data_dir": data_dir, "download": download}
    bounds = bounds_for(model, bounds)
    return load_for(model, name, split, classes=class_list(classes), **options).moved(bounds)


def class_list(text):
    """Class names from a list with commas."""
    return None if text is None else [part.strip() for part in text.split(",")]


def bounds_for(model, bounds):
    """The bounds of a defended model, or those given, or (0, 1)."""
    from tfdefense.bounds import is_bounded
    from tfdefense.decisions import View

    found = View.of(model, bounds).bounds
    if not is_bounded(found):
        raise ValueError(
            "This model takes any finite number (`bounds=None`), so data has no range to be scaled to. Give one where the "
            "command has --bounds, such as --bounds -3 3, or work in Python, on samples as they are: `td.calibrate(model, x)`."
        )
    return found


def build_attack(name, **options):
    """An attack by name; an option that is None is the attack's own default, one that it does not have is an error."""
    check_name("attack", name, ATTACKS)
    from tfdefense import attacks

    kind = getattr(attacks, ATTACKS[name])
    fields = {field.name: field for field in dataclasses.fields(kind)}
    own = ", ".join(f"--{option.replace('_', '-')}" for option in options if option in fields)
    options = {option: value for option, value in options.items() if value is not None}
    for option in options:
        if option not in fields:
            raise ValueError(f"The attack {name!r} has no --{option.replace('_', '-')}. It has {own}.")
    lacking = [n for n, field in fields.items() if field.default is dataclasses.MISSING and n not in options]
    if lacking:
        raise ValueError(f"The attack {name!r} needs --{lacking[0]}, such as --{lacking[0]} 0.1.")
    return kind(**options)


def through_surrogate(attack, name):
    """An attack that follows the surrogate of that name; None is the model itself."""
    check_name("surrogate", name, SURROGATES)
    if name is None:
        return attack
    from tfdefense.attacks import Through

    return Through(attack, straight_through=name == "straight")


def objective_named(name):
    if name is None:
        return None
    from tfdefense import attacks

    classes = (attacks.CrossEntropy, attacks.Margin, attacks.LogSumExp, attacks.Evade, attacks.MaximumConfidence)
    kinds = dict(zip(OBJECTIVES, classes, strict=False))
    return attacks.Evade(raw=True) if name == "evade-raw" else kinds[name]()


def starts_named(text, model, y, source=None):
    """Starts from a list with commas. A SavedModel's base can't be reached, so `source` takes its place in "all"."""
    import keras

    from tfdefense.attacks.starts import STARTS, Of

    if text is None:
        return None
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if names == ("all",):
        if source is None or isinstance(model, keras.Model):
            return "all"
        names = tuple(name for name in STARTS if name != "interpolated" or len(set(y.tolist())) > 1)
    return tuple(Of(source) if name == "base" and source is not None else name for name in names)


def check_name(what, name, known):
    if name is not None and name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"No {what} named {name!r}.{hint} Expected one of {', '.join(known)}.")


def outcome_table(title, rows):
    """A table of right, rejected and wrong, in percent. Rows are pairs of a name and `Outcomes`; None draws a line."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("samples", no_wrap=True)
    for column in ("right", "rejected", "wrong", "right or rejected"):
        table.add_column(column, justify="right")
    for name, outcomes in rows:
        if outcomes is None:
            table.add_section()
            continue
        rejects = outcomes.suspicion is not None or outcomes.rejected.any()
        shares = (outcomes.accuracy, outcomes.rejection if rejects else None, outcomes.error, outcomes.robust_accuracy)
        table.add_row(name, *("-" if share is None else f"{share:.1%}" for share in shares))
    return table


def zoo_table(cards):
    """One line a model: clean numbers, and what is not fooled by the largest attack in l2."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    table.add_column("what it is")
    for column in ("right", "rejected", "not fooled"):
        table.add_column(column, justify="right")
    for card in cards:
        largest = max(card.attacked, key=lambda row: (row["norm"] == "l2", row["size"]))
        held = f"{largest['not_fooled']:.0%}, {largest['norm']} {largest['size']:g}"
        about = card.summary if card.file else f"{card.summary}; to be made"
        table.add_row(card.name, about, f"{card.clean['accuracy']:.1%}", f"{card.clean['rejection']:.1%}", held)
    return table


def card_table(card):
    """Everything that a card says, but for its golden outputs."""
    from rich import box
    from rich.table import Table

    table = Table(title=card.name, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for label in ("summary", "architecture", "defense", "recipe", "data", "bounds", "licence", "sha256", "commit"):
        value = getattr(card, label)
        table.add_row(label, f"{value[0]:g} to {value[1]:g}" if label == "bounds" else str(value))
    if card.classes:
        table.add_row("classes", f"{len(card.classes)}: {', '.join(card.classes)}")
    clean = card.clean
    table.add_row("clean", f"{clean['accuracy']:.1%} right, {clean['rejection']:.1%} rejected of {clean['samples']:,} test samples")
    for row in card.attacked:
        held = f"{row['not_fooled']:.1%} of {row['samples']} not fooled"
        table.add_row(f"{row['norm']} {row['size']:g}", f"{held}: {row['attack']}")
    return table


def strength(result, goal):
    """One line on how often an attack succeeded, how far it went and how long it took."""
    import numpy as np

    what = "not rejected and " + ("misclassified" if goal is None else "taken for the target")
    text = f"{result.success.mean():.1%} {what}"
    if result.success.any():
        text += f", at {result.norm} distance {np.median(result.distance[result.success]):.4g} (median)"
    return f"{text}, {result.steps.mean():.0f} steps"


def writable(path, suffixes=()):
    """A path that can be written to, checked before the work is done and not after it."""
    if path is None:
        return None
    path = Path(path)
    if suffixes and path.suffix not in suffixes:
        raise ValueError(f"Expected a path that ends in {' or '.join(suffixes)}. Received: {path}.")
    if path.is_dir():
        raise ValueError(f"{path} is a directory. Give the name of a file in it.")
    if path.exists():
        check_file(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def folder(path):
    """A directory to write to, made if it is not there."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file. Expected a folder to write to.")
    path.mkdir(parents=True, exist_ok=True)
    return path


def numbers(option, text):
    """Numbers from a list with commas."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} must be numbers with commas between, as 0.05,0.1,0.5. Received: {text!r}.") from None


@contextlib.contextmanager
def steps(total):
    """A bar over the parts of a longer run; gives `begin(name)`, to be called before each part. Shown on terminals only."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text, left = TextColumn("{task.description:<32}"), (TextColumn("left:"), TimeRemainingColumn())
    columns = (text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), *left)
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        begun = []

        def begin(name):
            progress.update(task, description=name, completed=len(begun))
            begun.append(name)

        yield begin


@contextlib.contextmanager
def estimate(show=True):
    """How far a long run is and how long it will take; gives `begin(name, done, total)`, the cost done and that of all.

    A bar on terminals, elsewhere a line every half minute.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<44}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    started = told = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not (show and console.is_terminal)) as progress:
        task = progress.add_task("", total=1.0, left="")

        def begin(name, done, total):
            nonlocal told
            now = time.monotonic()
            # The first parts are the compiler's: they say little about the rest.
            left = f"about {_duration((now - started) * (total - done) / done)} left" if done > 0.02 * total else ""
            progress.update(task, description=name, completed=done / total, left=left)
            if show and not console.is_terminal and now - told > 30:
                told = now
                console.print(f"{done / total:4.0%}  {left:<22}{name}", markup=False)

        yield begin


def _duration(seconds):
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
