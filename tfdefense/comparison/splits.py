"""Held-out and out-of-distribution samples in two halves: one chooses, the other is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Half:
    """Samples with their classes, and out-of-distribution samples by name; `train` to adapt on, where it was given."""

    x: np.ndarray
    y: np.ndarray
    foreign: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""
    bounds: tuple[float, float] = (0.0, 1.0)
    train: Half | None = None

    def fit_and_calibrate(self, adapts: bool, seed: int) -> tuple[Half, Half]:
        """What to adapt on and what to calibrate on: never the same samples, if anything is adapted."""
        from tfdefense.data.images import stratified_order

        if self.train is not None:
            return self.train, self
        if not adapts:
            return Half(self.x[:0], self.y[:0]), self
        order = stratified_order(self.y, seed)
        first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        return Half(self.x[first], self.y[first]), Half(self.x[second], self.y[second], self.foreign, self.name, self.bounds)


def halves(model: Any, held_out: Any, foreign: Any, train: Any, bounds: Any, class_names: Any, seed: int) -> tuple[Half, Half]:
    """The half that chooses and the half that is reported, in the bounds of the model."""
    from tfdefense.reporting import _given, _images
    from tfdefense.view import View

    view, options = View.of(model, bounds), {"classes": class_names, "data_dir": None, "download": False}
    images, _ = _images(view, held_out, "test", options, "held_out")
    if len(images) < 4:
        raise ValueError(f"Expected held-out samples for two halves. Received {len(images)}: pass hundreds.")
    images = images.moved(view.bounds) if tuple(images.bounds) != tuple(view.bounds) else images
    view.check_shape(images.x)
    first, second = images.divide(0.5, seed)
    training = None
    if train is not None:
        given = _images(view, train, "train", options, "train")[0].moved(view.bounds)
        training = Half(given.x.astype("float32"), given.y)
    if foreign is None:
        foreign = {}
    elif not isinstance(foreign, Mapping):
        foreign = {getattr(foreign, "name", "foreign"): foreign}
    parts: tuple[dict, dict] = ({}, {})
    for number, (name, x) in enumerate(_given(view, dict(foreign)).items()):
        if len(x) < 2:
            raise ValueError(f"Expected samples of {name!r} for two halves. Received {len(x)}.")
        order = np.random.default_rng((seed, number)).permutation(len(x))
        for part, rows in zip(parts, (order[: len(x) // 2], order[len(x) // 2 :]), strict=True):
            part[name] = x[np.sort(rows)]
    both = (
        Half(half.x.astype("float32"), half.y, part, images.name, view.bounds)
        for half, part in zip((first, second), parts, strict=True)
    )
    chosen, reported = both
    chosen.train = training
    return chosen, reported
