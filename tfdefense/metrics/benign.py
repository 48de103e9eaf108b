"""Benign perturbations: where a detector rejects these too, its rejections of an attack mean little."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._validation import Bounds, check_inside, finite_bounds


def benign_perturbation(x: ArrayLike, size: float, kind: str = "sign", bounds: Bounds = (0.0, 1.0), seed: int = 0) -> np.ndarray:
    """Perturbs samples in a way that does not change their class.

    Args:
        x: Samples of shape (n, ...); images (n, height, width) or (n, height, width, channels) for "shift".
        size: How much, in the units of x but for "dim" and "shift".
        kind: "sign" adds +size or -size to each value (the control of an linf attack), "direction" adds a random
            direction of l2 length `size` (of an l2 attack), "gaussian" adds noise of this standard deviation,
            "dim" takes this share of the distance to the lowest value away, "shift" moves each image by `size` whole
            pixels in one of the eight directions, repeating the edge.
        bounds: Lowest and highest value; the result is clipped to them.
        seed: Equal seeds give equal perturbations.

    Example:

    >>> import numpy as np
    >>> benign_perturbation(np.array([[0.0, 0.5, 1.0]]), 0.2, "dim").tolist()
    [[0.0, 0.4, 0.8]]
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}. Received {kind!r}. Pass kind='sign'.")
    if not (np.isfinite(size) and size >= 0):
        raise ValueError(f"`size` must be a finite number, 0 or more. Received {size!r}. Pass the size of the attack.")
    x, (low, high) = check_inside(x, bounds), finite_bounds(bounds)
    changed = KINDS[kind](x, size, low, np.random.default_rng(seed))
    return np.clip(changed, low, high).astype(x.dtype)


def _sign(x, size, low, rng):
    return x + size * (2.0 * rng.integers(0, 2, x.shape) - 1.0)


def _gaussian(x, size, low, rng):
    return x + rng.normal(0.0, size, x.shape)


def _direction(x, size, low, rng):
    change = rng.normal(size=x.shape)
    length = np.linalg.norm(change.reshape(len(x), -1), axis=1).reshape(-1, *[1] * (x.ndim - 1))
    return x + size * change / length


def _dim(x, size, low, rng):
    if size > 1:
        raise ValueError(f'`size` of "dim" must lie in (0, 1). Received {size!r}. Pass 0.3 to dim to 0.7.')
    return low + (x - low) * (1 - size)


def _shift(x, size, low, rng):
    if x.ndim not in (3, 4) or size != int(size) or size >= min(x.shape[1:3]):
        raise ValueError(
            '"shift" needs images (n, height, width) or (n, height, width, channels) and a whole number of pixels '
            f"less than their side. Received shape {x.shape} and size {size!r}. Pass size=1."
        )
    size = int(size)
    directions = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])
    padded = np.pad(x, [(0, 0), (size, size), (size, size)] + [(0, 0)] * (x.ndim - 3), mode="edge")
    starts = size * (1 + directions[rng.integers(0, 8, len(x))])
    height, width = x.shape[1:3]
    return np.stack([p[i : i + height, j : j + width] for p, (i, j) in zip(padded, starts, strict=True)])


KINDS = {"sign": _sign, "gaussian": _gaussian, "direction": _direction, "dim": _dim, "shift": _shift}
