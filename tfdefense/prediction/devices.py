"""One batch on several devices at once, by `tf.distribute`: each computes its part of the samples."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdefense._progress import quiet
from tfdefense._validation import Model
from tfdefense.contract import is_defended
from tfdefense.prediction.deciding import decider, knows_reasons
from tfdefense.view import View


def chosen(view: View, devices: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the devices to compute on; an empty tuple is one device, TensorFlow's own choice."""
    import tensorflow as tf

    known = [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()]
    if devices is None:
        found = tuple(name for name in known if name.startswith("GPU"))
        return found if len(found) > 1 and view.is_keras else ()
    if isinstance(devices, str) or not devices:
        raise ValueError(f'`devices` must be a list of names, such as ["GPU:0", "GPU:1"], or None. Received: {devices!r}.')
    found = tuple(str(name).removeprefix("/device:") for name in devices)
    if wrong := [name for name in found if name not in known]:
        raise ValueError(f"`devices` must name devices of this machine: {', '.join(known)}. Received: {', '.join(wrong)}.")
    if len(set(found)) < len(found):
        raise ValueError(f"`devices` must name each device once. Received: {', '.join(found)}.")
    if not view.is_keras:
        raise ValueError(
            f"Only a Keras model can be copied to devices. Received a {type(view.model).__name__}: leave `devices` out."
        )
    return found


def across(view: View, devices: Sequence[str]) -> Callable[[np.ndarray], Any]:
    """The function from a batch to what the model gives, with a copy of the model on each device.

    It gives what `decider` gives of a model that knows reasons; else scores, suspicion and label, or scores alone, in a list.
    """
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(list(devices))
    with strategy.scope():
        copy = _copied(view.model)
    other = View(copy, None if is_defended(copy) else view.bounds)
    if knows_reasons(copy):
        look = decider(copy)
    else:

        def look(x):
            return [output for output in other._outputs(x) if output is not None]

    # A batch that is smaller at the end is no reason for a new trace.
    compiled = tf.function(lambda parts: strategy.run(look, args=(parts,)), autograph=False, reduce_retracing=True)

    def run(x):
        count = len(x)
        # Equal parts, of which none is empty: convolutions know no empty batch.
        part = -(-count // len(devices))
        padded = np.concatenate([x, np.repeat(x[-1:], part * len(devices) - count, axis=0)])
        parts = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(padded[context.replica_id_in_sync_group * part :][:part])
        )
        found = compiled(parts)

        def joined(value):
            return np.concatenate([one.numpy() for one in strategy.experimental_local_results(value)])[:count]

        return {name: joined(value) for name, value in found.items()} if isinstance(found, dict) else list(map(joined, found))

    return run


def _copied(model: Model) -> Model:
    """The same model with variables of its own, where they are made now: by way of a file, the one way that every layer knows."""
    from tfdefense import contract

    with tempfile.TemporaryDirectory() as folder, quiet():
        model.save(Path(folder) / "model.keras")
        path = Path(folder) / "model.keras"
        if isinstance(model, contract.DefendedModel):
            return contract.load(path)
        return keras.models.load_model(path, compile=False)
