"""Batches of in-distribution samples and of out-of-distribution ones for the dustbin class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    import tensorflow as tf


def mix(
    x: ArrayLike,
    y: ArrayLike,
    out: ArrayLike | Sequence[ArrayLike],
    *,
    dustbin: int | None = None,
    share: float | None = None,
    batch_size: int = 128,
    seed: int = 0,
) -> tf.data.Dataset:
    """A `tf.data` pipeline that mixes samples of the classes with samples of none, labelled as dustbin.

    An epoch has each in-distribution sample once. The dustbin's share is the same in every batch, but for rounding;
    its samples begin anew when they run out and go on in the next batch where they left off.

    Args:
        x: In-distribution samples, (N, ...).
        y: Their classes, integers, (N,).
        out: Out-of-distribution samples, (M, ...), or a list of several such arrays.
        dustbin: Label of the dustbin. None: one more than the largest class in `y`.
        share: Share of out-of-distribution samples in each batch, in (0, 1). None: the one they have by number.
        batch_size: Samples a batch, of both kinds together.
        seed: Integer. The same seed gives the same epochs in the same order; each epoch has its own order.

    Returns:
        A `tf.data.Dataset` of `(x, y)`, for `model.fit`.

    Example:

    >>> batches = mix(np.zeros((6, 2)), np.array([0, 1, 2] * 2), np.ones((4, 2)), batch_size=5)
    >>> [labels.numpy().tolist().count(3) for _, labels in batches]
    [2, 2]
    """
    import tensorflow as tf

    x, y = np.asarray(x), np.asarray(y)
    out = np.concatenate([np.asarray(part) for part in out]) if isinstance(out, (list, tuple)) else np.asarray(out)
    if out.shape[1:] != x.shape[1:] or out.dtype != x.dtype or not len(out):
        raise ValueError(
            f"`out` must hold samples like those of `x`: {x.dtype} of shape {x.shape[1:]}. "
            f"Received: {len(out)} of {out.dtype}, shape {out.shape[1:]}."
        )
    if y.shape != (len(x),) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"`y` must hold {len(x)} integers. Received: {y.dtype} of shape {y.shape}.")
    dustbin = int(y.max()) + 1 if dustbin is None else dustbin
    if dustbin in y:
        raise ValueError(f"`dustbin` must be a class of its own. Received: dustbin={dustbin}, which is in `y`.")
    share = len(out) / (len(out) + len(x)) if share is None else share
    outside = round(batch_size * share)
    inside = batch_size - outside
    if not 0 < share < 1 or outside < 1 or inside < 1:
        raise ValueError(
            "`share` must lie in (0, 1) and leave room for both kinds in a batch. "
            f"Received: share={share}, batch_size={batch_size}. Pass a larger batch_size."
        )

    def shuffled(data, seed):
        # Indices are shuffled, and samples gathered: a shuffle buffer would hold a second copy of the images.
        return tf.data.Dataset.range(len(data)).shuffle(len(data), seed=seed)

    x, y, out = tf.constant(x), tf.constant(y.astype("int32")), tf.constant(out)
    own, other = shuffled(x, seed).batch(inside), shuffled(out, seed + 1).repeat().batch(outside)

    def join(step, own, other):
        # The last batch of an epoch may be short; its dustbin part shrinks with it.
        count = tf.cast(tf.round(len(own) * outside / inside), "int32")
        other = other[:count]
        samples = tf.concat([tf.gather(x, own), tf.gather(out, other)], axis=0)
        labels = tf.concat([tf.gather(y, own), tf.fill([count], np.int32(dustbin))], axis=0)
        # Within the batch too: replicas take slices of it, and each should see both kinds.
        order = tf.random.experimental.stateless_shuffle(tf.range(len(labels)), seed=tf.stack([seed, step]))
        return tf.gather(samples, order), tf.gather(labels, order)

    pairs = tf.data.Dataset.zip((tf.data.Dataset.counter(), own, other))
    return pairs.map(join, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
