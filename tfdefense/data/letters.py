"""Letters A-J, drawn in the fonts that matplotlib ships: a stand-in for NotMNIST that needs no file."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

LETTERS = "ABCDEFGHIJ"

# Whole fonts are held out, so that a test letter is a new shape and not a new tilt of a known one.
FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-BoldOblique",
        "DejaVuSansMono",
        "DejaVuSansMono-Oblique",
        "DejaVuSansMono-BoldOblique",
        "DejaVuSerif",
        "DejaVuSerif-Bold",
        "DejaVuSerif-Italic",
        "STIXGeneral",
        "STIXGeneralItalic",
        "STIXGeneralBolIta",
        "cmb10",
        "cmmi10",
        "cmr10",
        "cmtt10",
    ),
    "test": (
        "DejaVuSans-Oblique",
        "DejaVuSansMono-Bold",
        "DejaVuSerif-BoldItalic",
        "STIXGeneralBol",
        "cmss10",
        "cmti10",
    ),
}

_CELL = 192  # side of the square that a glyph is kept in
_CAPITAL = 112  # height of an H in it
_FILL = 0.75  # share of the image's height that an upright letter takes


def draw_letters(count: int, split: str = "train", *, size: int = 28, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws letters, white on black, each turned, moved, scaled, thickened and dimmed at random.

    Train and test letters come from different fonts.

    Args:
        count: How many; the ten letters are equally frequent to within one.
        split: `"train"` or `"test"`: which fonts.
        size: Side of the square images.
        seed: Integer; the same seed gives the same letters.

    Returns:
        `x`, float32 in [0, 1], (count, size, size, 1), and `y`, int32, 0 for A to 9 for J.

    Example:

    >>> x, y = draw_letters(20)
    >>> x.shape, sorted(set(y.tolist()))
    ((20, 28, 28, 1), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if split not in FONTS:
        raise ValueError(f"`split` must be 'train' or 'test'. Received: split={split!r}.")
    if size < 4:
        raise ValueError(f"`size` must be 4 or more for a letter to be told from another. Received: size={size}.")
    # The split is part of the seed: equal poses in both would tie test samples to train samples.
    rng = np.random.default_rng((seed, list(FONTS).index(split)))
    y = rng.permutation(count) % len(LETTERS)
    glyphs = y + len(LETTERS) * rng.integers(len(FONTS[split]), size=count)
    x = np.empty((count, size, size), dtype="float32")
    for start in range(0, count, 1000):  # bounds the memory of the coordinate grids
        part = slice(start, min(start + 1000, count))
        x[part] = _draw(_distances(split), glyphs[part], size, rng)
    return x[..., None], y.astype("int32")


def _draw(distances, glyphs, size, rng):
    from scipy.ndimage import map_coordinates

    count = len(glyphs)

    def uniform(low, high):
        return rng.uniform(low, high, size=(count, 1, 1)).astype("float32")

    angle, scale = uniform(-0.25, 0.25), uniform(0.85, 1.15)
    right, down = uniform(-0.06, 0.06), uniform(-0.06, 0.06)
    contrast = uniform(0.6, 1.0)
    # Hairlines would vanish in an image of a few pixels, so its pen is broader.
    thickness = uniform(-0.6, 4.4) + 0.2 * max(0, _CAPITAL / _FILL * (1 / size - 1 / 28))

    # A stroke can be thinner than a pixel of a small image: draw finer, then average.
    finer = -(-24 // size)
    axis = ((np.arange(size * finer) + 0.5) / (size * finer) - 0.5).astype("float32")
    zoom = _CAPITAL / _FILL / scale
    across, along = (axis[None, None, :] - right) * zoom, (axis[None, :, None] - down) * zoom
    middle = (_CELL - 1) / 2
    rows = middle + np.cos(angle) * along - np.sin(angle) * across
    columns = middle + np.sin(angle) * along + np.cos(angle) * across
    layers = np.broadcast_to(glyphs[:, None, None], rows.shape)
    inside = map_coordinates(distances, [layers, rows, columns], order=1, mode="nearest", output="float32")
    # A pixel's coverage follows from the distance of its middle to the outline; moving the outline changes the weight.
    coverage = np.clip((inside + thickness) * (size * finer) / zoom + 0.5, 0, 1)
    return contrast * coverage.reshape(count, size, finer, size, finer).mean(axis=(2, 4))


@functools.cache
def _distances(split):
    """Signed distance to the outline, positive within the letter; one layer for each letter of each font."""
    from scipy.ndimage import distance_transform_edt

    layers = []
    for font in FONTS[split]:
        for bitmap in _bitmaps(font):
            layers.append(distance_transform_edt(bitmap) - distance_transform_edt(~bitmap))
    return np.stack(layers).astype("float32")


def _bitmaps(name):
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")
    if not path.is_file():
        raise FileNotFoundError(f"`letters` is drawn with the fonts that matplotlib ships, but {path} is missing.")
    probe = ImageFont.truetype(str(path), 100)
    _, top, _, bottom = probe.getbbox("H")
    font = ImageFont.truetype(str(path), round(100 * _CAPITAL / (bottom - top)))
    for letter in LETTERS:
        left, top, right, bottom = font.getbbox(letter)
        image = Image.new("L", (_CELL, _CELL))
        corner = ((_CELL - left - right) / 2, (_CELL - top - bottom) / 2)
        ImageDraw.Draw(image).text(corner, letter, fill=255, font=font)
        yield np.asarray(image) > 127
