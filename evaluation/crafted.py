"""Adversarial samples that several networks are tested on: crafted once, kept under their content."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evaluation.workers import alone
from tfdefense._files import write_file

LIBRARY = Path(__file__).parents[1] / "tfdefense"


class Crafted(NamedTuple):
    """Clean samples, what became of them, and whether the network that they were crafted on was misled."""

    x: np.ndarray
    y: np.ndarray
    x_adv: np.ndarray
    success: np.ndarray

    def take(self, rows):
        return Crafted(*(array[rows] for array in self))


def crafted(context, name, attack, model, x, y, target=None, **options):
    """The attack's samples on a Keras model, from the file of an earlier run with the same weights, samples and attack.

    `options` are those of the attack's call.
    """
    digest = hashlib.sha256(repr((attack, target, options)).encode())
    # What an attack sees of a network: its gradients, its logits and its bounds.
    seen_through = [LIBRARY / f"{name}.py" for name in ("surrogate", "decisions", "graph")]
    for file in sorted([*LIBRARY.glob("attacks/*.py"), *LIBRARY.glob("layers/*.py"), *seen_through]):
        digest.update(file.read_bytes())
    # Another pooling or activation has the same weights.
    digest.update(json.dumps(model.get_config(), sort_keys=True, default=str).encode())
    for array in (x, y, *model.get_weights()):
        digest.update(np.ascontiguousarray(array).tobytes())
    path = context.kept.parent / "crafted" / f"{digest.hexdigest()[:16]}.npz"
    with alone(path):
        if path.exists():
            context.say(f"{name}: taken from {path}")
        else:
            context.say(f"{name}: crafting on {len(x)} samples")
            result = attack(model, x, y, target, **options)
            found = {"x_adv": result.x_adv, "success": result.success}
            write_file(path, lambda new: np.savez_compressed(new, **found))
        with np.load(path) as found:
            return Crafted(x, y, found["x_adv"], found["success"])


def joined(parts):
    return Crafted(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def lengthened(samples, factor, bounds=(0.0, 1.0)):
    """The same perturbations, so many times as long: what stands on the boundary of one network goes beyond another's."""
    return samples._replace(x_adv=np.clip(samples.x + factor * (samples.x_adv - samples.x), *bounds).astype("float32"))
