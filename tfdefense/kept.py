"""Finished parts of a long call, kept as files: a call that was stopped goes on, and several processes share one."""

import contextlib
import contextvars
import dataclasses
import functools
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np

from tfdefense._files import write_file
from tfdefense._untrusted import read_arrays

_directory = contextvars.ContextVar("directory", default=None)


@contextlib.contextmanager
def everything(directory):
    """Inside, attacks on Keras models that are given no directory keep their batches in this one."""
    token = _directory.set(directory)
    try:
        yield
    finally:
        _directory.reset(token)


def watched():
    """Whether somebody sits before a long run whose attacks were asked for nothing: they then show how far they are."""
    return _directory.get() is not None and sys.stderr.isatty()


def place(kept, *values):
    """The directory for the result of a call that follows from these values; None where nothing is to be kept."""
    if kept is not None:
        return Path(kept) / content(*values)
    if _directory.get() is None:
        return None
    try:
        return Path(_directory.get()) / content(*values)
    except ValueError:
        return None  # Nobody asked for this call to be kept.


def content(*values):
    """A name for the result of a call: it changes with whatever the values hold, weights of models and samples included."""
    digest = hashlib.sha256()
    for value in values:
        _add(digest, value)
    return digest.hexdigest()[:16]


def _add(digest, value):
    import keras

    if isinstance(value, keras.Model):
        digest.update(_settings(value).encode())
        for weight in value.get_weights():
            _add(digest, weight)
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__qualname__.encode())
        for field in dataclasses.fields(value):
            digest.update(field.name.encode())
            _add(digest, getattr(value, field.name))
    elif isinstance(value, list | tuple):
        digest.update(f"{len(value)} in a row".encode())
        for item in value:
            _add(digest, item)
    elif value is None or isinstance(value, str | int | float | bool | np.generic):
        digest.update(f"{value!r};".encode())
    else:
        raise ValueError(
            f"What is kept is named by its content, and that of a {type(value).__name__} can't be read. Expected a Keras model, "
            "and settings made of numbers, strings and attacks. Leave the directory out."
        )


def _settings(model):
    try:
        return model.to_json()
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"What is kept is named by its content, and a layer of '{model.name}' does not tell its settings. Give it a "
            f"`get_config`, or leave the directory out. {str(error).splitlines()[0]}"
        ) from None


def parts(directory, make, count, done=None, names=None):
    """`make(number)`, a dict of arrays, for each number below `count`; what lies in the directory is read from there.

    Without a directory nothing is kept. Several processes may do this at once: each takes what no other has begun, and waits
    for the rest. A part whose process was killed is made by another. A damaged one is made again, with a warning.

    Args:
        done: Called with the number of parts that are there: at first, and whenever it grows.
        names: The arrays that each part has; what has others counts as damaged.
    """
    done = done or (lambda number: None)
    if directory is None:
        done(0)
        found = []
        for number in range(count):
            found.append(make(number))
            done(number + 1)
        return found
    paths = [Path(directory) / f"{number:06d}.npz" for number in range(count)]
    missing, patient = [number for number in range(count) if not paths[number].exists()], False
    done(count - len(missing))
    while missing:
        before = len(missing)
        for number in list(missing):
            with _claimed(paths[number], wait=patient) as mine:
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
    """A part as it lies there. What can't be a part costs no more than its making: nobody has to look for it."""
    try:
        return _read(path, names)
    except ValueError as error:
        warnings.warn(f"{error} This kept batch is made again.", UserWarning, stacklevel=3)
    with _claimed(path, wait=True):
        with contextlib.suppress(ValueError):
            return _read(path, names)  # Another process was faster.
        arrays = make()
        write_file(path, lambda new: np.savez(new, **arrays))
    return arrays


def _read(path, names):
    arrays, found = read_arrays(path)
    if names is not None and set(found) != set(names):
        raise ValueError(f"{path} must hold the arrays {', '.join(names)}. Received: {', '.join(found) or 'none'}.")
    if len({array.shape[:1] for array in arrays.values()}) > 1:
        raise ValueError(f"{path} must hold arrays of one length. Received: {[array.shape for array in arrays.values()]}.")
    return arrays


@contextlib.contextmanager
def _claimed(path, wait):
    """Whether this process alone has the part now. The claim ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes may then make the same part, and write the same file
        yield True
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
