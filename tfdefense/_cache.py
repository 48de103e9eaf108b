"""What took long is made once and kept as a file: named by its content, made by one process alone, made again by other code."""

import ast
import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import platformdirs

from tfdefense._files import write_file, write_text
from tfdefense._untrusted import read_arrays

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("tfdefense", "models", "training", "evaluation")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_default: contextvars.ContextVar[Any] = contextvars.ContextVar("default", default=None)
_at_first = {}  # name of a module: its spec, which changes when it is loaded again, and its hash when it was first seen
_behind = {}  # file: its hash, of the code behind the entries that this process has read


def directory(*parts):
    """A place in `$TFDEFENSE_CACHE`, or in the user's own cache."""
    return Path(os.environ.get("TFDEFENSE_CACHE") or platformdirs.user_cache_dir("tfdefense", appauthor=False), *parts)


@contextlib.contextmanager
def lock(path, wait=True):
    """Gives whether this process alone has `path` now; without waiting, another may have it. It ends with the process.

    The empty file beside stays: if it were removed, two processes could lock two files of its name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = filelock.FileLock(path.with_name(f"{path.name}.lock"), timeout=-1 if wait else 0)
    try:
        held.acquire()
    except filelock.Timeout:
        held = None
    try:
        yield held is not None
    finally:
        if held is not None:
            held.release()


# Names


def content(*values):
    """A name for what follows from these values: it changes with all that they hold, weights of models and samples included."""
    digest = hashlib.sha256()
    for value in values:
        _add(digest, value)
    return digest.hexdigest()[:16]


def _add(digest, value):
    model: Any = getattr(sys.modules.get("keras"), "Model", ())
    if isinstance(value, model):
        digest.update(_settings(value).encode())
        for weight in value.get_weights():
            _add(digest, weight)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).reshape(-1).view("uint8"))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__qualname__.encode())
        for field in dataclasses.fields(value):
            digest.update(field.name.encode())
            _add(digest, getattr(value, field.name))
    elif isinstance(value, dict):
        digest.update(f"{len(value)} by name".encode())
        for pair in sorted(value.items(), key=repr):
            _add(digest, pair)
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)} in a row".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, str | int | float | bool | np.generic):
        digest.update(f"{value!r};".encode())
    else:
        raise ValueError(
            f"What is cached is named by its content, and that of a {type(value).__name__} can't be read. Expected a Keras model, "
            "and settings made of numbers, strings and attacks. Leave the cache out."
        )


def _settings(model):
    """What the outputs follow from. Neither the name is: each defense gives its base another; nor what it was compiled with."""
    try:
        settings = json.loads(model.to_json())
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"What is cached is named by its content, and a layer of '{model.name}' does not tell its settings. Give it a "
            f"`get_config`, or leave the cache out. {' '.join(str(error).split())[:200]}"
        ) from None
    identity = {key: settings[key] for key in ("module", "class_name", "registered_name")}
    return json.dumps(identity | {"config": settings["config"] | {"name": None}}, sort_keys=True)


# The code behind an entry


def imported(packages=PACKAGES):
    """The modules of the project that this process has loaded, and those behind the entries that it has read: each file, from
    the root, with the hash of its code.

    A module counts as it was when it was first seen here: a long run may outlive an edit.
    """
    behind = {file: code for file, code in _behind.items() if file.split("/")[0] in packages}
    return dict(sorted((_loaded(packages) | behind).items()))


def _loaded(packages):
    found = {}
    for name, module in list(sys.modules.items()):
        # Others may load themselves when asked.
        if name.split(".")[0] not in (*packages, "__main__") or not vars(module).get("__file__"):
            continue
        path = Path(vars(module)["__file__"]).resolve()
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in packages:
            file, spec = path.relative_to(ROOT).as_posix(), vars(module).get("__spec__")
            if name not in _at_first or _at_first[name][0] is not spec:
                _at_first[name] = spec, _on_disk(file)
            found[file] = _at_first[name][1]
    return found


def _on_disk(file):
    path = ROOT / file
    try:
        found = path.stat()
        return _of_code(path, found.st_mtime_ns, found.st_size)
    except (OSError, SyntaxError, ValueError):
        return None


@functools.cache
def _of_code(path, mtime, size):
    """Changes with the code, not with its comments, docstrings or layout."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]


def changed(code):
    """The files of a record that `imported` gave whose code is another now, or gone."""
    loaded = _loaded(PACKAGES)
    return [file for file in code if not code[file] or code[file] != (loaded.get(file) or _on_disk(file))]


def entry(path, write, read=Path):
    """`read(path)` of a file that `write(new)` makes, at the path that it is given, where there is none of the code of today.

    Beside it lies `NAME.code.json`, the modules that were loaded when it was made: it is made again when one of them has
    changed. So whatever else it follows from belongs into its name, and what other processes do for `write` into entries of
    their own. A file is damaged if `read` raises ValueError: it is made again, with a warning. Processes wait for each other.

    Example: `entry(directory("crafted", f"{content(attack, model, x)}.npz"), lambda new: np.savez(new, **craft()), read_arrays)`
    """
    path = Path(path)
    record = path.with_name(f"{path.name}.code.json")
    with lock(path):
        code = _recorded(record)
        if path.exists() and code and not changed(code):
            try:
                found = read(path)
            except ValueError as error:
                warnings.warn(f"{error} {path} is made again.", UserWarning, stacklevel=2)
            else:
                _behind.update(code)
                return found
        # First: whoever is killed in between leaves a file without a record, which counts for nothing.
        record.unlink(missing_ok=True)
        imported()
        write_file(path, write)
        write_text(record, json.dumps(imported(), indent=1))
        return read(path)


def _recorded(record):
    try:
        code = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return code if isinstance(code, dict) else {}


# The batches of a long call


@contextlib.contextmanager
def caching(directory):
    """Inside, attacks on Keras models that are given no directory keep their batches in this one."""
    token = _default.set(directory)
    try:
        yield
    finally:
        _default.reset(token)


def is_watched():
    """Whether somebody sits before a long run whose attacks were asked for nothing: they then show how far they are."""
    return _default.get() is not None and sys.stderr.isatty()


def place(cache, *values):
    """The directory for the result of a call that follows from these values; None where nothing is to be kept."""
    if cache is not None:
        return Path(cache) / content(*values)
    if _default.get() is None:
        return None
    try:
        return Path(_default.get()) / content(*values)
    except ValueError:
        return None  # Nobody asked for this call to be kept.


def batches(directory, make, count, done=None, names=None, several=None):
    """`make(number)`, a dict of arrays, for each number below `count`; what lies in the directory is read from there.

    Without a directory nothing is kept. Several processes may do this at once: each takes what no other has begun, and waits
    for the rest. A batch whose process was killed is made by another. A damaged one is made again, with a warning.

    Args:
        done: Called with the number of batches that are there: at first, and whenever it grows.
        names: The arrays that each batch has; what has others counts as damaged.
        several: From numbers to pairs of a number and its dict, in any order: the workers of a cluster make what this call lacks.
            Another call at the same time may make the same.
    """
    done = done or (lambda number: None)
    making = several or (lambda numbers: ((number, make(number)) for number in numbers))
    if directory is None:
        done(0)
        found = {}
        for number, made in making(range(count)):
            found[number] = made
            done(len(found))
        return [found[number] for number in range(count)]
    paths = [Path(directory) / f"{number:06d}.npz" for number in range(count)]
    missing, patient = [number for number in range(count) if not paths[number].exists()], False
    done(count - len(missing))
    if several is not None and missing:
        for number, made in several(tuple(missing)):
            write_file(paths[number], lambda new, made=made: np.savez(new, **made))
            missing.remove(number)
            done(count - len(missing))
    while missing:
        before = len(missing)
        for number in list(missing):
            with lock(paths[number], wait=patient) as mine:
                if mine and not paths[number].exists():
                    made = make(number)
                    write_file(paths[number], lambda new, made=made: np.savez(new, **made))
            if paths[number].exists():
                missing.remove(number)
                done(count - len(missing))
                patient = False
        patient = len(missing) == before
    return [_read_or_make(path, functools.partial(make, number), names) for number, path in enumerate(paths)]


def _read_or_make(path, make, names):
    """A batch as it lies there. What can't be one costs no more than its making: nobody has to look for it."""
    try:
        return _batch(path, names)
    except ValueError as error:
        warnings.warn(f"{error} This cached batch is made again.", UserWarning, stacklevel=3)
    with lock(path):
        with contextlib.suppress(ValueError):
            return _batch(path, names)  # Another process was faster.
        arrays = make()
        write_file(path, lambda new: np.savez(new, **arrays))
    return arrays


def _batch(path, names):
    arrays, found = read_arrays(path)
    if names is not None and set(found) != set(names):
        raise ValueError(f"{path} must hold the arrays {', '.join(names)}. Received: {', '.join(found) or 'none'}.")
    if len({array.shape[:1] for array in arrays.values()}) > 1:
        raise ValueError(f"{path} must hold arrays of one length. Received: {[array.shape for array in arrays.values()]}.")
    return arrays


class Recent:
    """Arrays that this process has made, by name: of so many bytes, the one that was asked for longest ago goes first."""

    def __init__(self, room):
        self.room, self.arrays = room, {}

    def find(self, names, make):
        """The array of each name; `make(numbers)` gives those of the names that are new."""
        known = {name: self.arrays[name] for name in names if name in self.arrays}
        new = np.array([number for number, name in enumerate(names) if name not in known], int)
        if len(new):
            known |= {names[number]: array.copy() for number, array in zip(new, make(new), strict=True)}
        for name in names:
            self.arrays.pop(name, None)
            self.arrays[name] = known[name]
        held = sum(array.nbytes for array in self.arrays.values())
        while held > self.room:
            held -= self.arrays.pop(next(iter(self.arrays))).nbytes
        return [known[name] for name in names]
