"""What searches have found on undefended models: one after the other begins there, and would search for it anew."""

import json

import numpy as np

from tfdefense.kept import content

# Bytes of samples that are remembered in this process; the oldest go first. Samples alone: models are known by their content.
ROOM = 2**28
_found = {}


def from_samples(attack, batch):
    """What `attack.perturb` finds from the clean samples of a batch, searched for those alone that are new.

    The same samples under the same attack on the same weights are found again, whatever else is in their batch.
    """
    try:
        others = batch.pool if attack.looks_at_others else None
        whole = content(*_of_model(batch.view), attack, batch.target is None, others)
    except (ValueError, TypeError, NotImplementedError):
        # A function does not tell its weights, and not every layer its settings.
        return attack.perturb(batch, batch.x).x
    aim, free = batch.aim.numpy(), batch.free
    keys = [
        (whole, content(batch.x[i], int(aim[i]), int(batch.number[i]), None if free is None else free[i]))
        for i in range(len(batch.x))
    ]
    known = {key: _found[key] for key in keys if key in _found}
    new = np.array([i for i, key in enumerate(keys) if key not in known], int)
    if len(new):
        points = attack.perturb(batch.rows(new), batch.x[new]).x
        known |= {keys[i]: point.copy() for i, point in zip(new, points, strict=True)}
    for key in keys:
        # What was asked for last goes last.
        _found.pop(key, None)
        _found[key] = known[key]
    held = sum(point.nbytes for point in _found.values())
    while held > ROOM:
        held -= _found.pop(next(iter(_found))).nbytes
    return np.stack([known[key] for key in keys]) if keys else batch.x


def _of_model(view):
    """What the outputs of a view follow from. The name of a model is none of it: each defense gives its base another."""
    if not view.is_keras:
        return [view.model]
    config = json.dumps(view.model.get_config() | {"name": None}, sort_keys=True, default=str)
    return [config, *view.model.get_weights(), view.bounds]
