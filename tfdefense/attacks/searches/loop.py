"""The loop of every search that goes in steps."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from tfdefense._validation import check_number
from tfdefense.attacks.norms import norm_named

SCHEDULES = ("cosine", "fixed")
# So many steps inside a training step stand one by one.
UNROLLED = 10


def check_search(attack):
    """Checks the settings that searches in steps have in common, those of them that this one has."""
    norm_named(attack.norm)
    has = {field.name for field in dataclasses.fields(attack)}
    limits: dict[str, Any] = {
        "epsilon": {},
        "steps": {"low": 1, "whole": True},
        "restarts": {"low": 1, "whole": True},
        "targets": {"whole": True},
    }
    for name, limit in limits.items():
        if name in has:
            check_number(name, getattr(attack, name), **limit)
    if "schedule" in has and attack.schedule not in SCHEDULES:
        raise ValueError(f"`schedule` must be 'cosine' or 'fixed'. Received: {attack.schedule!r}.")
    if getattr(attack, "step_size", None) is not None:
        check_number("step_size", attack.step_size, above=True)
    if getattr(attack, "momentum", None) is not None:
        check_number("momentum", attack.momentum)
        if attack.momentum >= 1:
            raise ValueError(f"`momentum` must be below 1. Received: {attack.momentum!r}.")


def lengths(schedule, first, steps):
    """How long each step is: from the first length down to 0 along half a cosine, or all alike."""
    ages = np.arange(steps) / steps if schedule == "cosine" else np.zeros(steps)
    return (first * (1 + np.cos(np.pi * ages)) / 2).astype("float32")


def lengths_of(attack, alike):
    """How long each step of an attack in a ball is; `alike` is the length where all are alike and none was given."""
    first = attack.step_size or (attack.epsilon if attack.schedule == "cosine" else alike)
    return lengths(attack.schedule, first, attack.steps)


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


def in_the_graph(descend, state, steps):
    """The state after so many steps inside a training step; `descend(index, *state)` gives the next one.

    TensorFlow fuses convolutions with what follows them everywhere but in the body of a loop, which costs up to a tenth of a
    training step. Long searches loop all the same: each step that stands by itself takes a third of a second to compile.
    """
    if steps <= UNROLLED:
        for index in range(steps):
            state = descend(index, *state)
        return state
    return tf.while_loop(lambda index, *_: index < steps, lambda index, *at: (index + 1, *descend(index, *at)), (0, *state))[1:]
