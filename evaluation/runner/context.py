"""What a protocol is given: its common options, trained networks, finished parts, and the place for what it finds."""

import contextvars
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.runner import results, rows
from evaluation.runner.parts import run_parts
from evaluation.runner.protocols import protocols
from tfdefense import _cache
from tfdefense._files import write_file, write_text

# Files that the part that is worked on has made beside its own, such as models and parts of parts.
_files = contextvars.ContextVar("files", default=set())  # noqa: B039 - outside a part nobody reads it


class Adversarial(NamedTuple):
    """Clean samples, what became of them, and whether the attack succeeded on the network that they were crafted on."""

    x: np.ndarray
    y: np.ndarray
    x_adv: np.ndarray
    success: np.ndarray

    def take(self, rows):
        return Adversarial(*(array[rows] for array in self))

    def lengthened(self, factor, bounds=(0.0, 1.0)):
        """The same perturbations, so many times as long: what stands on one network's boundary goes beyond another's."""
        return self._replace(x_adv=np.clip(self.x + factor * (self.x_adv - self.x), *bounds).astype("float32"))


@dataclasses.dataclass
class Context:
    """One run of one protocol. It can be pickled: functions of parts are given it where they need it.

    Args:
        samples: The number asked for with `--samples`, or None; see `samples_or`.
        output: Where the results go.
        cache: Where the parts of an interrupted run lie.
        commit: Of the code as it is when the run starts; a long run may outlive an edit.
        options: Of the command line, as the page repeats them.
        each: What was found on each sample, by name: in the JSON alone, for whoever wants to compare in pairs.
        seconds: Of each part, whichever process or run measured it: the next run tells by them how long it will take.
        code: Hashes of the project's modules that the run has used, wherever its parts were worked on.
        executor: Who works on the parts; None is this process.
    """

    protocol: str
    dataset: str
    quick: bool
    samples: int | None
    data_dir: Path | None
    output: Path
    cache: Path
    rows: list = dataclasses.field(default_factory=list)
    curves: list = dataclasses.field(default_factory=list)
    settings: dict = dataclasses.field(default_factory=dict)
    each: dict = dataclasses.field(default_factory=dict)
    commit: str = dataclasses.field(default_factory=lambda: results.commit())
    options: str = ""
    used: set = dataclasses.field(default_factory=set)
    seconds: dict = dataclasses.field(default_factory=dict)
    code: dict = dataclasses.field(default_factory=dict)
    executor: object = None
    started: float = dataclasses.field(default_factory=time.perf_counter)

    def __getstate__(self):
        # What was found so far is no business of a part, and the executor stays where it is.
        return self.__dict__ | {"rows": [], "curves": [], "each": {}, "executor": None}

    def samples_or(self, full, quick):
        """The number of samples: as asked for, else that of a quick or a full run."""
        return self.samples or (quick if self.quick else full)

    def refuse_a_part(self, only):
        """`--only` of a protocol measures a part, which must not be taken for the whole."""
        if only and self.output.resolve() == results.RESULTS:
            raise ValueError(
                f"`--only` is a part of `{self.protocol}` and must not take the place of the whole. Name another folder with "
                "`--output`."
            )

    def say(self, text):
        print(text, file=sys.stderr, flush=True)

    def row(self, table, metric, value, **fields):
        """Adds a number, with the paper's beside it; see `evaluation.runner.rows.Row` for the fields."""
        row = rows.make(table, metric, value, **fields)
        self.rows.append(row if "paper" in fields else rows.beside_paper(row, self.dataset, rows.paper_numbers(self._folder())))

    def _folder(self):
        """Where the protocol's module lies."""
        module = protocols().get(self.protocol, ("evaluation",))[0]
        return results.ROOT / Path(*module.split(".")[:-1])

    def curve(self, table, x_name, x, metric, y, **fields):
        """Adds a curve that is no sweep over sizes of an attack, such as a ROC curve; a sweep is rows with an `epsilon`."""
        row = rows.make(table, metric, None, note="a curve", **fields).plain()
        fields = {name: row[name] for name in row if name not in ("value", "note")}
        self.curves.append(fields | {"x name": x_name, "x": list(x), "y": list(y)})

    def network(self, recipe, **settings):
        """The path of a trained model; trains it first when the cache does not have it."""
        from evaluation.runner.networks import trained

        return trained(recipe, data_dir=self.data_dir, **settings)

    def part(self, name, measure, *arguments):
        """`measure(*arguments)`, or its JSON from an interrupted run with the same code and settings. Worked on here."""
        return self._parts({name: (measure, *arguments)}, None)[name]

    def parts(self, parts):
        """Results of many parts by name, in any order, by whoever works on this run.

        Args:
            parts: Dict from a name to a function of a module and its arguments, as one tuple. Results are what JSON holds.
        """
        return self._parts(parts, self.executor)

    def _parts(self, parts, executor):
        paths = {name: self._path(name, ".json") for name in parts}
        found = {name: content for name, path in paths.items() if (content := _finished(path))}
        for name in found:
            self._finish(name, found[name], f"taken from {paths[name]}")
        missing = {name: (_measured, paths[name], *part) for name, part in parts.items() if name not in found}

        def done(name, content):
            found[name] = content
            if not paths[name].exists():  # It was worked on where the files are others.
                write_text(paths[name], json.dumps(content))
            self._finish(name, content, _length(content["seconds"]))

        run_parts(missing, executor, done)
        return {name: found[name]["value"] for name in parts}

    def _finish(self, name, content, about):
        self._uses(self._path(name, ".json"), *map(Path, content["files"]))
        self.seconds[name] = content["seconds"]
        self.code |= content["code"]
        self.say(f"{name}: {about} ({self.progress()})")

    def _uses(self, *paths):
        self.used |= set(paths)
        _files.get().update(map(str, paths))

    def model(self, name, make, *arguments):
        """The model `make(*arguments)`, cached as a part is: training it again would cost as much as measuring it."""
        import keras

        import tfdefense.layers  # noqa: F401 - the model may end in one of them

        path = self._path(name, ".keras")
        record = path.with_suffix(".json")
        self._uses(path, record)
        with _cache.lock(path):
            content = _finished(record) if path.exists() else None
            if content is None:
                begun = time.perf_counter()
                write_file(path, make(*arguments).save)
                content = _record(record, None, time.perf_counter() - begun)
                self.say(f"{name}: {_length(content['seconds'])}")
        self.code |= content["code"]
        return keras.models.load_model(path, compile=False)

    def adversarial(self, name, attack, model, x, y, target=None, **options):
        """What an attack found on a Keras model, crafted once for all networks that it is tested on; `options` are of its call."""
        from tfdefense._untrusted import read_arrays

        path = self.cache.parent / "crafted" / f"{_cache.content(attack, model, x, y, target, options)}.npz"

        def write(new):
            self.say(f"{name}: crafting on {len(x)} samples")
            result = attack(model, x, y, target, **options)
            np.savez_compressed(new, x_adv=result.x_adv, success=result.success)

        return Adversarial(x, y, **_cache.entry(path, write, lambda file: read_arrays(file)[0]))

    def _path(self, name, suffix):
        """The file of that name and of these settings."""
        data = self.data_dir or os.environ.get("TFDEFENSE_DATA")
        place = None if data is None else str(Path(data).resolve())
        key = json.dumps([self.settings, self.quick, self.samples, place, name], sort_keys=True, default=str)
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        return self.cache / f"{self.protocol}-{self.dataset}-{digest}{suffix}"

    def progress(self):
        """How far the run is; how long it will take where an earlier one had the same parts, whatever its settings were."""
        so_far = f"part {len(self.seconds)}, {_length(time.perf_counter() - self.started)} so far"
        earlier = results.earlier(self).get("parts", {})
        both, rest = earlier.keys() & self.seconds, sum(earlier[name] for name in earlier.keys() - self.seconds.keys())
        if not both or not rest:
            return so_far
        pace = sum(self.seconds[name] for name in both) / max(sum(earlier[name] for name in both), 0.1)
        left = rest * pace / (self.executor.workers if self.executor else 1)
        return f"part {len(self.seconds)} of {len(earlier.keys() | self.seconds.keys())}, about {_length(left)} left"

    def forget_parts(self):
        """Those of this run: another of the same protocol may have more to do."""
        for path in self.used:
            for own in (path, path.with_name(f"{path.name}.lock")):
                own.unlink(missing_ok=True)


def _measured(path, measure, *arguments):
    """What a part found, with the seconds that it took and the code that it used. Written where it was measured."""
    begun, token = time.perf_counter(), _files.set(set())
    batches = path.with_suffix(".batches")
    try:
        # A part that is interrupted goes on with the batches of its attacks that are there.
        with _cache.caching(batches):
            value = measure(*arguments)
        content = _record(path, value, time.perf_counter() - begun, sorted(_files.get()))
    finally:
        _files.reset(token)
    shutil.rmtree(batches, ignore_errors=True)
    return content


def _record(path, value, seconds, files=()):
    # As JSON gives it back: a tuple measured here must not differ from a list read from there.
    about = {"seconds": round(seconds, 1), "code": _cache.imported(), "files": files}
    content = json.loads(json.dumps({"value": value} | about))
    write_text(path, json.dumps(content))
    return content


def _finished(path):
    """What an earlier run wrote, or None where nothing is there or it was made by other code."""
    try:
        content = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return None if _cache.changed(content["code"]) else content


def _length(seconds):
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
