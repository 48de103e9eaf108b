"""How far a long run of samples is."""

import contextlib
import time

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
                from tfdefense._console import estimate

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
