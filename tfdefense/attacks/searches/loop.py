"""The loop of every search that goes in steps."""

import numpy as np
import tensorflow as tf

SCHEDULES = ("cosine", "fixed")


def check_schedule(schedule):
    if schedule not in SCHEDULES:
        raise ValueError(f"`schedule` must be 'cosine' or 'fixed'. Received: {schedule!r}.")


def lengths(schedule, first, steps):
    """How long each step is: from the first length down to 0 along half a cosine, or all alike."""
    ages = np.arange(steps) / steps if schedule == "cosine" else np.zeros(steps)
    return (first * (1 + np.cos(np.pi * ages)) / 2).astype("float32")


def search(step, state, steps):
    """Runs a compiled step again and again; samples that are done leave the batch.

    Args:
        step: A function from a dict of tensors to a dict of tensors, with a boolean entry `done`. A done row may go on
            changing: what counts is its state when it was first seen done.
        state: The first such dict.
        steps: How many times at most.

    Returns:
        The final state as arrays, and the steps that each sample took.
    """
    rows = np.arange(len(state["done"]))
    final, spent = {}, np.zeros(len(rows), int)

    def settle(which):
        for name, value in state.items():
            value = value.numpy()
            final.setdefault(name, np.empty((len(spent), *value.shape[1:]), value.dtype))[rows[which]] = value[which]

    for _ in range(steps):
        state = step(state)
        spent[rows] += 1
        done = state["done"].numpy()
        if done.any():
            settle(done)
            keep = np.flatnonzero(~done)
            rows = rows[keep]
            if len(keep) == 0:
                break
            state = {name: tf.gather(value, keep) for name, value in state.items()}
    if len(rows):
        settle(np.ones(len(rows), bool))
    return final, spent
