"""Training samples that scores compare with: how many are stored, and how."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops

from tfdefense._validation import check_number
from tfdefense.layers.scores.bandwidth import equal_shares
from tfdefense.layers.scores.fitted import FittedScore, length, pooled

STORAGES = ("float32", "float16", "int8")


class ReferenceScore(FittedScore):
    """A score that compares the direction of features with those of stored training samples.

    For each sample it multiplies as many numbers as it stores: samples times components. `memory` says how many bytes these take.

    Args:
        k: How many of the nearest count.
        max_points: Training samples that are stored at most, an equal share of each class, drawn at random. With fewer of them
            a smaller `k` means the same: a tenth of the samples, a tenth of `k`.
        components: Principal components that are stored of each, in place of all features: less memory and time. None is all.
        storage: "float32", "float16" or "int8": 4 bytes, 2 or 1 for each number. Sums are in float32 with each.
        seed: Of the draw.
    """

    # Whether components are those of differences from the mean.
    centered: bool

    def __init__(
        self,
        k: int,
        max_points: int = 10_000,
        components: int | None = None,
        storage: str = "float32",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        for name, value in {"k": k, "max_points": max_points, "components": 1 if components is None else components}.items():
            check_number(name, value, 1, whole=True)
        if k > max_points:
            raise ValueError(f"`k` must be at most `max_points`, {max_points}. Received: {k}.")
        if storage not in STORAGES:
            raise ValueError(f"`storage` must be one of {', '.join(map(repr, STORAGES))}. Received: {storage!r}.")
        self.k, self.max_points, self.components = int(k), int(max_points), components
        self.storage, self.seed = storage, seed

    def blank(self, width, classes):
        if self.components is not None and self.components > width:
            raise ValueError(f"`components` must be at most the {width} features of a sample. Received: {self.components}.")
        # So many points that there is a k-th: what comes before `adapt` is rejected, and must not fail.
        return {"points": (self.k, self.components or width), "scale": (), "center": (width,), "offsets": (self.k,)} | (
            {} if self.components is None else {"basis": (width, self.components)}
        )

    def draw(self, labels):
        """Rows of the training samples that are to be stored."""
        kept = equal_shares(labels, self.max_points, self.seed)
        if len(kept) < self.k:
            raise ValueError(f"`k` must be at most the {len(kept)} training samples that are stored. Received: {self.k}.")
        return kept

    def store(self, rows, samples):
        """Stores rows in few bytes; components are those of all samples, rows of the same kind."""
        center = samples.mean(0) if self.centered else np.zeros(samples.shape[1])
        rows, state = rows - center, {}
        points = rows
        if self.components is not None:
            moved = samples - center
            state["basis"] = np.linalg.eigh(moved.T @ moved)[1][:, -self.components :].astype("float32")
            points = rows @ state["basis"]
        # Of one byte, numbers from -127 to 127.
        scale = np.abs(points).max() / 127 if self.storage == "int8" else 1.0
        scale = np.float32(scale or 1.0)
        stored = (np.round(points / scale) if self.storage == "int8" else points).astype(self.storage)
        points = stored.astype("float64") * scale
        rest = np.square(rows).sum(1) - np.square(rows @ state["basis"]).sum(1) if state else np.zeros(len(rows))
        offsets = np.square(points).sum(1) + np.maximum(rest, 0.0)
        whole = {"scale": scale, "center": center, "offsets": offsets}
        self.keep(points=stored, **{name: np.asarray(value, "float32") for name, value in whole.items()}, **state)

    def stored_points(self):
        """What is stored, as float32."""
        return ops.cast(self.held["points"], "float32") * self.held["scale"]

    def directions(self, features):
        """Features, one row a sample, divided by their length."""
        rows = pooled(features)
        return rows / ops.expand_dims(length(rows), -1)

    def get_config(self):
        own = ("k", "max_points", "components", "storage", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def unit_rows(features):
    """Rows divided by their length, as `ReferenceScore.directions` does it."""
    return features / np.sqrt(np.maximum(np.square(features).sum(1, keepdims=True), 1e-12))
