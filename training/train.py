"""Trained once: a result is kept under its recipe and the content of its settings, and appears whole or not at all.

It stays where other code changes, the library's included: training takes hours, and its results tell the commit.
"""

import contextlib
import dataclasses
import functools
import json
import os
import shutil
import sys
import uuid
from pathlib import Path

from tfdefense._cache import directory, lock
from tfdefense._files import write_folder
from training.recipe import find


def train(
    name,
    *,
    data_dir=None,
    cache=None,
    strategy="auto",
    fresh=False,
    callbacks=(),
    verbose=2,
    report=sys.stderr,
    **settings,
):
    """Trains a recipe unless its result is there; resumes what an interrupted run left behind.

    Args:
        name: File name of the recipe, such as `digits`.
        data_dir: Where data sets are looked for first.
        cache: Directory for results in place of the default one; several machines must share it.
        strategy: "one" device, "mirrored" over all GPUs of this machine, "multiworker" over several machines, or "auto":
            mirrored where there are several GPUs. It decides where the result is computed, not what it is; but of dropout
            each replica draws the masks of its own part, so that the result is then another draw.
        fresh: Begin anew, whatever an earlier run left behind.
        callbacks: More Keras callbacks for `fit`; they do not count in the key of the cache.
        settings: Fields of `Recipe` to change, such as `epochs=50`.

    Returns:
        The directory with `model.keras`, the last state, `best.keras`, that of the smallest training loss, `history.csv`,
        logs for TensorBoard, and `config.json`: settings, versions, fingerprints of the data, numbers.
    """
    recipe = find(name).changed(**settings)
    root = Path(cache) if cache else directory("training")
    done = root / f"{name}-{recipe.key()}"
    root.mkdir(parents=True, exist_ok=True)
    if (done / "config.json").exists() and not fresh:
        return done
    from training.strategy import choose

    place = choose(strategy, report, recipe.batch_size)
    # Two runs of one recipe would write into the same backup: the second waits, and then finds the result.
    with lock(done) if place.chief else contextlib.nullcontext():
        if fresh and place.chief:
            _forget(done)
            _forget(root / f"{done.name}.partial")
        place.wait()
        if not (done / "config.json").exists():
            # Where several processes train together, each comes to it, and the first of them trains for all.
            trained = functools.partial(train, data_dir=data_dir, cache=cache, strategy="one")
            _train(name, recipe, done, place, report, trained=trained, data_dir=data_dir, callbacks=callbacks, verbose=verbose)
    return done


def _forget(path):
    """At once: half a result would pass for one."""
    gone = path.with_name(f".gone.{uuid.uuid4().hex[:12]}")
    with contextlib.suppress(FileNotFoundError):
        os.replace(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _train(name, recipe, done, place, report, **options):
    work = done.with_name(f"{done.name}.partial")
    verb = "Resuming" if any(work.glob("epoch-*")) else "Training"
    print(f"{verb} {name}: {recipe.epochs} epochs of {recipe.dataset} into {done}", file=report, flush=True)
    work.mkdir(exist_ok=True)

    from training.checkpoints import started
    from training.loop import fit

    starts = started(work) if place.chief else []
    last, best, numbers = fit(recipe, work, place=place, **options)
    if place.chief:
        config = {"recipe": name, **dataclasses.asdict(recipe), **numbers, "versions": starts[-1], "starts": starts}
        write_folder(done, lambda new: _write_result(new, work, last, best, config))
        shutil.rmtree(work)
    place.wait()


def _write_result(new, work, last, best, config):
    new.mkdir()
    last.save(new / "model.keras")
    best.save(new / "best.keras")
    shutil.copyfile(work / "history.csv", new / "history.csv")
    if (work / "tensorboard").exists():
        shutil.copytree(work / "tensorboard", new / "tensorboard")
    (new / "config.json").write_text(json.dumps(config, indent=2) + "\n")
