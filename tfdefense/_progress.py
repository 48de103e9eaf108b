"""What a long run shows: how far it is; and what others write meanwhile, held back."""

import contextlib
import logging
import os
import time
import warnings

from rich.console import Console

# Seconds of work that nobody is told of.
QUIET = 5


def batches(count, size):
    """Slices of `size` samples. What takes longer than a few seconds shows how far it is, and `size`."""
    begun, shown, first = time.monotonic(), None, 0
    with contextlib.ExitStack() as stack:
        for start in range(0, count, size):
            yield slice(start, start + size)
            done = min(start + size, count)
            if shown is None and done < count and time.monotonic() - begun > QUIET:
                shown, first = stack.enter_context(estimate()), done
            if shown is not None:
                shown(f"{count:,} samples, {size} at once", done - first, count - first)


def bar(samples, batch_size):
    """Shows how many batches are there, and by those made since the first call how long the rest will take."""
    from keras.utils import Progbar

    begun = []

    def show(batches):
        done = min(batches * batch_size, samples)
        if not begun:
            begun.extend([done, Progbar(samples - done, unit_name="sample")])
        elif done > begun[0]:
            begun[1].update(done - begun[0])

    return show


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


@contextlib.contextmanager
def quiet():
    """Holds back what TensorFlow and the converters write, their C++ parts included. Exceptions pass."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx", "absl")]
    levels = [logger.level for logger in loggers]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        sink = stack.enter_context(open(os.devnull, "w"))
        for stream in (1, 2):
            kept = os.dup(stream)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, stream)
            os.dup2(sink.fileno(), stream)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(logging.ERROR)
            stack.callback(logger.setLevel, level)
        yield
