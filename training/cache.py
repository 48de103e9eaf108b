"""Trained once: a result is kept under its recipe and the content of its settings, and appears whole or not at all."""

import contextlib
import csv
import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path

from training.recipe import find


def directory():
    """`$TFDEFENSE_CACHE`, or the user's own cache."""
    return Path(os.environ.get("TFDEFENSE_CACHE") or Path.home() / ".cache" / "tfdefense") / "training"


@contextlib.contextmanager
def _alone(path):
    """Two runs of one recipe would write into the same backup: the second waits, and then finds the result."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there the user must not start the same recipe twice at once
        yield
        return
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_history(source, target):
    """An interruption between the log and the backup repeats an epoch: its last row is the one that counts."""
    with open(source, newline="") as file:
        reader = csv.DictReader(file)
        rows = {int(row["epoch"]): row for row in reader}
    with open(target, "w", newline="") as file:
        writer = csv.DictWriter(file, reader.fieldnames)
        writer.writeheader()
        writer.writerows(rows[epoch] for epoch in sorted(rows))


def train(name, *, data_dir=None, cache=None, callbacks=(), verbose=2, report=sys.stderr, **settings):
    """Trains a recipe unless its result is there; resumes what an interrupted run left behind.

    Args:
        name: File name of the recipe, such as `digits`.
        data_dir: Where data sets are looked for first.
        cache: Directory for results in place of the default one.
        callbacks: More Keras callbacks for `fit`; they do not count in the key of the cache.
        settings: Fields of `Recipe` to change, such as `epochs=50`.

    Returns:
        The directory with `model.keras`, `history.csv` and `config.json`.
    """
    recipe = find(name).changed(**settings)
    root = Path(cache) if cache else directory()
    done = root / f"{name}-{recipe.key()}"
    root.mkdir(parents=True, exist_ok=True)
    if (done / "config.json").exists():
        return done
    with _alone(root / f"{done.name}.lock"):
        if (done / "config.json").exists():
            return done
        work = root / f"{done.name}.partial"
        verb = "Resuming" if work.exists() else "Training"
        print(f"{verb} {name}: {recipe.epochs} epochs of {recipe.dataset} into {done}", file=report, flush=True)
        work.mkdir(exist_ok=True)

        from training.loop import fit, versions

        model, numbers = fit(recipe, work, data_dir=data_dir, cache=cache, callbacks=callbacks, verbose=verbose)
        result = root / f"{done.name}.new"
        shutil.rmtree(result, ignore_errors=True)
        result.mkdir()
        model.save(result / "model.keras")
        _write_history(work / "log.csv", result / "history.csv")
        config = {"recipe": name, **dataclasses.asdict(recipe), **numbers, "versions": versions()}
        (result / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        os.replace(result, done)
        shutil.rmtree(work)
    return done
