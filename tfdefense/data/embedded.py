"""Sets that need no file."""

import functools

import numpy as np

from tfdefense.data.images import stratified_order
from tfdefense.data.letters import LETTERS, draw_letters
from tfdefense.data.textures import TEXTURES, draw_textures

_DRAWN = {"train": 5000, "test": 1000}


def digits(split, **_):
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = stratified_order(digits.target, seed=0)
    chosen = np.sort({"train": order[:1400], "test": order[1400:], "all": order}[split])
    x = (digits.images[chosen, :, :, None] / 16).astype("float32")
    return x, digits.target[chosen], tuple("0123456789")


def letters(split, size=28, **_):
    return *_drawn(draw_letters, split, size=size), tuple(LETTERS)


def textures(split, size=32, channels=3, **_):
    return *_drawn(draw_textures, split, size=size, channels=channels), TEXTURES


def _drawn(draw, split, **options):
    parts = [_part(draw, part, **options) for part in _DRAWN if split in (part, "all")]
    x, y = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return x, y


@functools.cache
def _part(draw, split, **options):
    return draw(_DRAWN[split], split, **options)
