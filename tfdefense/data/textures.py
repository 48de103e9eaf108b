"""Textures and shapes, drawn: images of nothing, to train a dustbin with where photographs are few."""

from __future__ import annotations

import numpy as np

TEXTURES = ("stripes", "checks", "clouds", "rings", "shapes")
_SPLITS = ("train", "test")
_MOST_SHAPES = 6


def draw_textures(
    count: int, split: str = "train", *, size: int = 32, channels: int = 3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draws textures between two colours, and discs and boxes before them, everything about each at random.

    Train and test images are other draws of the same kinds.

    Args:
        count: How many; the five kinds are equally frequent to within one.
        split: `"train"` or `"test"`.
        size: Side of the square images.
        channels: 3 for colour, 1 for grey.
        seed: Integer; the same seed gives the same images.

    Returns:
        `x`, float32 in [0, 1], (count, size, size, channels), and `y`, int32, the kind as its place in `TEXTURES`.

    Example:

    >>> x, y = draw_textures(10)
    >>> x.shape, sorted(y.tolist())
    ((10, 32, 32, 3), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    """
    if split not in _SPLITS:
        raise ValueError(f"`split` must be 'train' or 'test'. Received: split={split!r}.")
    if size < 4:
        raise ValueError(f"`size` must be 4 or more for a texture to be told from another. Received: size={size}.")
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: channels={channels}.")
    # The split is part of the seed: equal draws in both would tie test images to train images.
    rng = np.random.default_rng((seed, _SPLITS.index(split)))
    y = rng.permutation(count) % len(TEXTURES)
    x = np.empty((count, size, size, channels), "float32")
    for kind, pattern in enumerate((_stripes, _checks, _clouds, _rings, _clouds)):
        rows = np.flatnonzero(y == kind)
        low, high = _colours(rng, len(rows), channels), _colours(rng, len(rows), channels)
        drawn = low + (high - low) * pattern(rng, len(rows), size)[..., None]
        x[rows] = _with_shapes(rng, drawn, size) if TEXTURES[kind] == "shapes" else drawn
    # A little beyond the range, so that black and white are among the colours.
    return np.clip(1.04 * x - 0.02, 0, 1).astype("float32"), y.astype("int32")


def _colours(rng, count, channels):
    return rng.random((count, 1, 1, channels))


def _uniform(rng, low, high, count):
    return rng.uniform(low, high, (count, 1, 1))


def _places(size):
    """Coordinates of the pixels from -0.5 to 0.5: across, along."""
    axis = (np.arange(size) + 0.5) / size - 0.5
    return axis[None, None, :], axis[None, :, None]


def _wave(rng, count, distance):
    """A wave along a distance, from soft to nearly of two values; its length is from 2.5 pixels of 32 to the image's."""
    frequency, phase = 2 ** _uniform(rng, 0, 3.7, count), _uniform(rng, 0, 2 * np.pi, count)
    sharp = 2 ** _uniform(rng, 0, 3, count)
    return np.clip(0.5 + sharp * 0.5 * np.cos(2 * np.pi * frequency * distance + phase), 0, 1)


def _turned(rng, count, size):
    across, along = _places(size)
    angle = _uniform(rng, 0, np.pi, count)
    return np.cos(angle) * across + np.sin(angle) * along, np.cos(angle) * along - np.sin(angle) * across


def _stripes(rng, count, size):
    return _wave(rng, count, _turned(rng, count, size)[0])


def _checks(rng, count, size):
    one, other = (_wave(rng, count, distance) for distance in _turned(rng, count, size))
    return np.where(_uniform(rng, 0, 1, count) < 0.5, np.abs(one - other), one * other)


def _rings(rng, count, size):
    across, along = _places(size)
    right, down = _uniform(rng, -0.5, 0.5, count), _uniform(rng, -0.5, 0.5, count)
    return _wave(rng, count, np.hypot(across - right, along - down))


def _clouds(rng, count, size):
    """Noise whose power falls with the frequency, from grains to one slope over the image."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    frequency[0, 0] = 1 / size
    spectrum = np.fft.rfft2(rng.standard_normal((count, size, size))) * frequency ** -_uniform(rng, 0.2, 2.5, count)
    noise = np.fft.irfft2(spectrum, (size, size))
    low, high = noise.min((1, 2), keepdims=True), noise.max((1, 2), keepdims=True)
    return (noise - low) / (high - low)


def _with_shapes(rng, x, size):
    """Discs and boxes of one colour each, one before the other."""
    count = len(x)
    for number in range(_MOST_SHAPES):
        across, along = _turned(rng, count, size)
        right, down = _uniform(rng, -0.4, 0.4, count), _uniform(rng, -0.4, 0.4, count)
        wide, high = _uniform(rng, 0.05, 0.35, count), _uniform(rng, 0.05, 0.35, count)
        across, along = (across - right) / wide, (along - down) / high
        disc, there = _uniform(rng, 0, 1, count) < 0.5, _uniform(rng, 0, _MOST_SHAPES, count) > number
        distance = np.where(disc, np.hypot(across, along), np.maximum(np.abs(across), np.abs(along)))
        # The edge is as soft as one pixel.
        cover = np.clip((1 - distance) * size * np.minimum(wide, high) + 0.5, 0, 1) * there
        x = x + (_colours(rng, count, x.shape[-1]) - x) * cover[..., None]
    return x
