"""Pictures with depth: real pairs and forgeries of them, for SceneProof (rows S8 and S9).

A pair is a float32 array in [0, 1]: colours in whole parts of 255 and depth in whole parts of 65535, as files of 8 and of 16 bits
hold them. Bytes are taken too, depth then in parts of 255; `spread` makes it as fine as the other.
"""

import io
import itertools
from typing import NamedTuple

import numpy as np

from tfdefense.data.rendering import render_scene

FORGED, REAL = 0, 1
CLASSES = ("forged", "real")
DEPTH = 3  # the channel behind red, green and blue; 1 is 10 m
COLOUR_STEPS, DEPTH_STEPS = 255, 65535  # of a file
FAMILIAR = ("swapped", "predicted", "inserted", "misaligned")
UNFAMILIAR = ("no depth", "resampled", "low-quality jpeg", "rendered")


class Scenes(NamedTuple):
    """Real and forged pairs: `kind` is "real" or how it was forged, `source` the pair that it was made from."""

    x: np.ndarray
    y: np.ndarray
    kind: np.ndarray
    source: np.ndarray


def by_scene(images, seed=0):
    """Puts a set in an order in which views of one room stay together, so that a cut parts few rooms.

    The split of the set is by room, so that a room ends where the index jumps; where it does not for long, every 20 views.

    Args:
        images: Pairs as `Images`, whose `y` is the index in the whole set.
        seed: Of the order of the rooms.
    """
    order = np.argsort(images.y, kind="stable")
    first = np.flatnonzero(np.diff(images.y[order], prepend=-2) > 1)
    lengths = np.diff(np.append(first, len(order)))
    place = np.arange(len(order)) - np.repeat(first, lengths)
    group = np.cumsum(place % 20 == 0) - 1
    drawn = np.random.default_rng(seed).permutation(group[-1] + 1)[group]
    return images.take(order[np.argsort(drawn, kind="stable")])


def forge(pairs, kind, *, predicted=None, seed=0, rows=None, vary=False):
    """Makes a forgery of each real pair. Values are those that files hold: see `as_in_files`.

    Args:
        pairs: Real pairs, (N, H, W, 4), uint8 or floats in [0, 1]; what is swapped or inserted comes from others of them.
        kind: One of `FAMILIAR` or `UNFAMILIAR`, or one for each row.
        predicted: Depth maps that a network made of the images, (N, H, W, 1), for the kind "predicted".
        seed: Integer or integers; a forgery follows from them and its row, whatever the other rows.
        rows: Which pairs; all by default.
        vary: Mirror, crop and brighten each pair first, as `vary_pair` does for the same row and seed.

    Returns:
        float32 in [0, 1].

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> forge(pairs, "swapped").shape
    (6, 24, 32, 4)
    """
    pairs, rows = np.asarray(pairs), np.arange(len(pairs)) if rows is None else np.asarray(rows)
    kinds = np.broadcast_to(kind, rows.shape)
    _check(pairs, kinds, predicted)
    made = np.empty((len(rows), *pairs.shape[1:]), "float32")
    for place, (row, one) in enumerate(zip(rows, kinds, strict=True)):
        rng = np.random.default_rng([*np.atleast_1d(seed), row, 1 + list(_MAKERS).index(one)])
        # One by one: a batch of a large set takes a few of them.
        pair, guess, other = as_in_files(pairs[row]), None, as_in_files(pairs[_another(row, len(pairs), rng)])
        if one == "predicted":
            guess = as_in_files(predicted[row])
        if vary:
            joined = pair if guess is None else np.concatenate([pair, guess], -1)
            joined = vary_pair(joined, _varying(seed, row))
            pair, guess = joined[..., : DEPTH + 1], joined[..., DEPTH + 1 :]
            # The same for the other scene: planes that were resized by different shares would give a forgery away.
            other = vary_pair(other, _varying(seed, row))
        made[place] = _MAKERS[one](pair, other, guess, rng)
    return made


def _check(pairs, kinds, predicted):
    kinds = set(kinds.tolist())
    if unknown := kinds - set(_MAKERS):
        raise ValueError(f"`kind` must be among {', '.join(map(repr, _MAKERS))}. Received: {unknown.pop()!r}.")
    if "predicted" in kinds and (predicted is None or np.shape(predicted) != (*pairs.shape[:3], 1)):
        found = "None" if predicted is None else f"shape {np.shape(predicted)}"
        raise ValueError(f"The kind 'predicted' needs `predicted`, a depth map a pair: {(*pairs.shape[:3], 1)}. Received {found}.")
    if len(pairs) < 2 and {"swapped", "inserted"} & kinds:
        raise ValueError("To swap or insert, `pairs` must hold two scenes or more. Received one.")


def real_and_forged(pairs, kinds=FAMILIAR, *, predicted=None, seed=0):
    """Every real pair, and one forgery of each; the kinds take turns.

    Args:
        pairs, predicted, seed: As for `forge`.
        kinds: Of forgeries.

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> scenes = real_and_forged(pairs, ("swapped", "no depth"))
    >>> scenes.x.shape, scenes.y.tolist()
    ((12, 24, 32, 4), [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    """
    rows = np.arange(len(pairs))
    kind = np.array(kinds)[np.random.default_rng([seed, len(pairs)]).permutation(len(pairs)) % len(kinds)]
    forged = forge(pairs, kind, predicted=predicted, seed=seed)
    real = as_in_files(pairs)
    labels = np.repeat([REAL, FORGED], len(pairs)).astype("int32")
    return Scenes(np.concatenate([real, forged]), labels, np.concatenate([np.full(len(pairs), "real"), kind]), np.tile(rows, 2))


def stream(pairs, kinds=FAMILIAR, *, predicted=None, batch_size=32, vary=True, seed=0):
    """A `tf.data` pipeline of real pairs, each beside a forgery of it: other forgeries in each epoch, the same for the same seed.

    Args:
        pairs, predicted: As for `forge`.
        kinds: Of forgeries, drawn at random.
        batch_size: Samples a batch, real and forged ones together.
        vary: As for `forge`.
        seed: Integer.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, for `model.fit`.

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> x, y = next(iter(stream(pairs, ["swapped", "misaligned"], batch_size=4)))
    >>> x.shape, sorted(y.numpy().tolist())
    (TensorShape([4, 24, 32, 4]), [0, 0, 1, 1])
    """
    import tensorflow as tf

    pairs, kinds, epoch = as_in_files(pairs), np.atleast_1d(kinds), itertools.count()
    # Now, and not in the midst of an epoch.
    _check(pairs, kinds, predicted)

    def draws():
        # TensorFlow's own draws would follow its global seed too.
        rng = np.random.default_rng([seed, next(epoch)])
        for row in rng.permutation(len(pairs)):
            yield row, rng.integers(2**31)

    def both(row, drawn):
        kind = kinds[np.random.default_rng([drawn, 1]).integers(len(kinds))]
        return twins(pairs, [row], [kind], predicted=predicted, seed=(seed, int(drawn)), vary=vary)

    def make(row, drawn):
        x, y = tf.numpy_function(both, [row, drawn], (tf.float32, tf.int32))
        return tf.ensure_shape(x, [2, *pairs.shape[1:]]), tf.ensure_shape(y, [2])

    number = tf.TensorSpec((), tf.int64)
    drawn = tf.data.Dataset.from_generator(draws, output_signature=(number, number))
    drawn = drawn.apply(tf.data.experimental.assert_cardinality(len(pairs)))
    both_planes = drawn.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    return both_planes.unbatch().batch(batch_size).prefetch(tf.data.AUTOTUNE)


def twins(pairs, rows, kinds, *, predicted=None, seed=0, vary=False):
    """Some of the pairs, each followed by a forgery of it, and their classes.

    Args:
        pairs, predicted, seed, vary: As for `forge`.
        rows: Which pairs.
        kinds: How each is forged.

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> x, y = twins(pairs, [0, 3], ["swapped", "no depth"])
    >>> y.tolist()
    [1, 0, 1, 0]
    """
    real = np.stack([vary_pair(pairs[row], _varying(seed, row)) if vary else as_in_files(pairs[row]) for row in rows])
    forged = forge(pairs, kinds, predicted=predicted, seed=seed, rows=rows, vary=vary)
    x = np.stack([real, forged], 1).reshape(-1, *np.shape(pairs)[1:])
    return x, np.tile(np.array([REAL, FORGED], "int32"), len(rows))


def zoomed_pair(pair, rng):
    """A window of most of a pair, as large as the whole. Picture and depth are resized alike, as those of misaligned pairs are.

    Args:
        pair: One pair.
        rng: A generator of NumPy.

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> zoomed_pair(pairs[0], np.random.default_rng(0)).shape
    (24, 32, 4)
    """
    return _zoomed(pair, rng.uniform(0.75, 0.95), *rng.random(2))


def vary_pair(pair, rng):
    """Mirrors and crops a pair and brightens its picture, at random. It stays a picture of a real scene.

    Args:
        pair: One pair.
        rng: A generator of NumPy.

    Example:

    >>> pairs = np.random.default_rng(0).random((6, 24, 32, 4))
    >>> vary_pair(pairs[0], np.random.default_rng(0)).shape
    (24, 32, 4)
    """
    pair = as_in_files(pair)
    pair = pair[:, ::-1] if rng.random() < 0.5 else pair
    # Not always: what is resized is smoother, and real pairs are not to look so alone.
    share = rng.uniform(0.75, 1) if rng.random() < 0.5 else 1.0
    pair = _zoomed(pair, share, *rng.random(2))
    image = pair[..., :DEPTH] ** np.float32(np.exp(rng.uniform(-0.3, 0.3)))
    return as_in_files(np.concatenate([image, pair[..., DEPTH:]], -1))


def whole(values):
    """Values as bytes: what a picture is saved as.

    Args:
        values: Numbers in [0, 1], or bytes.

    Example:

    >>> whole([0.0, 0.5, 1.0]).tolist()
    [0, 128, 255]
    """
    values = np.asarray(values)
    return values if values.dtype == np.uint8 else np.rint(255 * np.clip(values, 0, 1)).astype("uint8")


def as_in_files(values):
    """Pairs, pictures or depth maps as files hold them, float32 in [0, 1].

    The first three channels are colours, in whole parts of 255; those behind them, and the channel of a map alone, are depth, in
    whole parts of 65535. Bytes are parts of 255 everywhere.

    Args:
        values: Shape (..., channels), uint8 or floats in [0, 1].

    Example:

    >>> as_in_files(np.array([[0.5, 0.5, 0.5, 0.5]])).round(4)
    array([[0.502, 0.502, 0.502, 0.5  ]], dtype=float32)
    """
    values = np.asarray(values)
    if values.dtype == np.uint8:
        return (values / np.float32(255)).astype("float32")
    deep, made = _is_depth(values), np.clip(values, 0, 1).astype("float32")
    made[..., ~deep] = np.rint(made[..., ~deep] * np.float32(COLOUR_STEPS)) / np.float32(COLOUR_STEPS)
    # In float64: float32 has just the digits for a part of 65535, and none to spare.
    made[..., deep] = np.rint(made[..., deep].astype("float64") * DEPTH_STEPS) / DEPTH_STEPS
    return made


def spread(values, *, seed=0, steps=COLOUR_STEPS):
    """Pairs or depth maps of a set whose depth was rounded to so many steps: what that lost is drawn at random within each step.

    Guessed maps are rounded and spread in the same way: a guess that is finer than real depth would give itself away by its values.
    What has no depth, 0, stays.

    Args:
        values: (N, H, W, 4) or (N, H, W, 1), uint8 or floats in [0, 1].
        seed: Integer; each row draws by it and by its place.
        steps: Of the real depth; NYU Depth V2 came through 8 bits, 39 mm each.

    Example:

    >>> spread(np.zeros((1, 2, 2, 1), "uint8")).max().item()
    0.0
    """
    made = as_in_files(values)
    deep = _is_depth(made)
    for row, one in enumerate(made):
        level = np.rint(one[..., deep].astype("float64") * steps)
        drawn = level + np.random.default_rng([seed, row]).uniform(-0.5, 0.5, level.shape)
        one[..., deep] = np.rint(np.where(level > 0, drawn / steps, 0).clip(0, 1) * DEPTH_STEPS) / DEPTH_STEPS
    return made


def _is_depth(values):
    """Of each channel."""
    count = values.shape[-1]
    return np.arange(count) >= (DEPTH if count != 1 else 0)


def _varying(seed, row):
    return np.random.default_rng([*np.atleast_1d(seed), row, 0])


def _another(row, count, rng):
    """A pair that is no neighbour, which may show the same room."""
    near = min(20, (count - 1) // 2)
    return (row + rng.integers(near, count - near) if near else row + 1) % count


def _zoomed(pair, share, top, left):
    """A window of that share of each side, resized to the whole: the image smoothly, depth without new values."""
    from PIL import Image

    pair = as_in_files(pair)
    height, width = pair.shape[:2]
    tall, wide = round(share * height), round(share * width)
    if (tall, wide) == (height, width):
        return pair
    top, left = round(top * (height - tall)), round(left * (width - wide))
    window = pair[top : top + tall, left : left + wide]
    picture = np.asarray(Image.fromarray(whole(window[..., :DEPTH])).resize((width, height), Image.BILINEAR))
    rows, columns = np.arange(height) * tall // height, np.arange(width) * wide // width
    return np.concatenate([as_in_files(picture), window[rows][:, columns, DEPTH:]], -1)


def _with_depth(pair, depth):
    return np.concatenate([pair[..., :DEPTH], depth], -1)


def _swapped(pair, other, guess, rng):
    return _with_depth(pair, other[..., DEPTH:])


def _predicted(pair, other, guess, rng):
    return _with_depth(pair, guess)


def _inserted(pair, other, guess, rng):
    """A rectangle of another scene, image and depth."""
    height, width = pair.shape[:2]
    tall, wide = (max(1, round(side * rng.uniform(0.3, 0.6))) for side in (height, width))
    top, left = rng.integers(height - tall + 1), rng.integers(width - wide + 1)
    made = pair.copy()
    made[top : top + tall, left : left + wide] = other[top : top + tall, left : left + wide]
    return made


def _misaligned(pair, other, guess, rng):
    """Depth moved or scaled against the image, by about a tenth of the picture and more; resized are always both."""
    if rng.random() < 0.5:
        share = rng.uniform(0.75, 0.85)
        corner, away = rng.random(2), rng.random(2)
        # Far apart in at least one direction.
        side, apart = rng.integers(2), [rng.uniform(0, 0.25), rng.uniform(0.75, 1)]
        corner[side], away[side] = rng.permutation(apart)
        return _with_depth(_zoomed(pair, share, *corner), _zoomed(pair, share, *away)[..., DEPTH:])
    share = rng.uniform(0.8, 0.95)
    wide, near = _zoomed(pair, share, *rng.random(2)), _zoomed(pair, share * rng.uniform(0.6, 0.8), *rng.random(2))
    image, depth = (near, wide) if rng.random() < 0.5 else (wide, near)
    return _with_depth(image, depth[..., DEPTH:])


def _no_depth(pair, other, guess, rng):
    return _with_depth(pair, np.zeros_like(pair[..., DEPTH:]))


def _resampled(pair, other, guess, rng):
    """Image and depth made smaller and larger again, by the nearest neighbour."""
    height, width = pair.shape[:2]
    factor = int(rng.integers(2, 5))
    rows, columns = (np.minimum(np.arange(side) // factor * factor + factor // 2, side - 1) for side in (height, width))
    return pair[rows][:, columns]


def _jpeg(pair, other, guess, rng):
    from PIL import Image

    quality, planes = int(rng.integers(5, 16)), []
    for plane in (pair[..., :DEPTH], pair[..., DEPTH]):
        file = io.BytesIO()
        # Depth too has 8 bits in a JPEG.
        Image.fromarray(whole(plane)).save(file, "JPEG", quality=quality)
        planes.append(as_in_files(np.asarray(Image.open(file, formats=["JPEG"]))))
    return np.concatenate([planes[0], planes[1][..., None]], -1)


def _rendered(pair, other, guess, rng):
    return spread(render_scene(rng, pair.shape[:2])[None], seed=int(rng.integers(2**31)))[0]


_MAKERS = {
    "swapped": _swapped,
    "predicted": _predicted,
    "inserted": _inserted,
    "misaligned": _misaligned,
    "no depth": _no_depth,
    "resampled": _resampled,
    "low-quality jpeg": _jpeg,
    "rendered": _rendered,
}
