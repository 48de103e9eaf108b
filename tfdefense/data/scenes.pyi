"""The types of scenes.py, whose code is part of the key of trained networks: an annotation there would train them anew."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfdefense.data.images import Images

FORGED: int
REAL: int
CLASSES: tuple[str, ...]
DEPTH: int
COLOUR_STEPS: int
DEPTH_STEPS: int
FAMILIAR: tuple[str, ...]
UNFAMILIAR: tuple[str, ...]

class Scenes(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    kind: np.ndarray
    source: np.ndarray

def by_scene(images: Images, seed: int = 0) -> Images: ...
def forge(
    pairs: np.ndarray,
    kind: str | Sequence[str] | np.ndarray,
    *,
    predicted: np.ndarray | None = None,
    seed: int | Sequence[int] = 0,
    rows: Sequence[int] | None = None,
    vary: bool = False,
) -> np.ndarray: ...
def real_and_forged(
    pairs: np.ndarray, kinds: Sequence[str] = FAMILIAR, *, predicted: np.ndarray | None = None, seed: int = 0
) -> Scenes: ...
def stream(
    pairs: np.ndarray,
    kinds: Sequence[str] = FAMILIAR,
    *,
    predicted: np.ndarray | None = None,
    batch_size: int = 32,
    vary: bool = True,
    seed: int = 0,
) -> tf.data.Dataset: ...
def twins(
    pairs: np.ndarray,
    rows: Sequence[int],
    kinds: Sequence[str],
    *,
    predicted: np.ndarray | None = None,
    seed: int | Sequence[int] = 0,
    vary: bool = False,
) -> tuple[np.ndarray, np.ndarray]: ...
def zoomed_pair(pair: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...
def vary_pair(pair: np.ndarray, rng: np.random.Generator) -> np.ndarray: ...
def whole(values: np.ndarray) -> np.ndarray: ...
def as_in_files(values: np.ndarray) -> np.ndarray: ...
def spread(values: np.ndarray, *, seed: int = 0, steps: int = COLOUR_STEPS) -> np.ndarray: ...
