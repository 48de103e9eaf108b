"""Held-out samples in three parts, of which one chooses, one calibrates and one is reported; out-of-distribution ones in two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class Part:
    """Samples with their classes, and out-of-distribution samples by name; `train` to adapt on, where it was given."""

    x: np.ndarray
    y: np.ndarray
    ood: dict[str, np.ndarray] = field(default_factory=dict)
    name: str = ""
    bounds: tuple[float, float] = (0.0, 1.0)
    train: Part | None = None

    def fit_and_choose(self, adapts: bool, seed: int) -> tuple[Part, Part]:
        """What to adapt on and what to choose by: never the same samples, if anything is adapted."""
        from tfdefense.data.images import stratified_order

        if self.train is not None:
            return self.train, self
        if not adapts:
            return Part(self.x[:0], self.y[:0]), self
        order = stratified_order(self.y, seed)
        first, second = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
        return Part(self.x[first], self.y[first]), Part(self.x[second], self.y[second], self.ood, self.name, self.bounds)


def thirds(model: Any, held_out: Any, ood: Any, train: Any, bounds: Any, class_names: Any, seed: int) -> tuple[Part, Part, Part]:
    """The parts that choose, calibrate and are reported, in the bounds of the model. What calibrates has no other samples."""
    from tfdefense.reporting import _given, _images
    from tfdefense.view import View

    view, options = View.of(model, bounds), {"classes": class_names, "data_dir": None, "download": False}
    images, _ = _images(view, held_out, "test", options, "held_out")
    if len(images) < 6:
        raise ValueError(f"Expected held-out samples for three parts. Received {len(images)}: pass hundreds.")
    images = images.moved(view.bounds) if tuple(images.bounds) != tuple(view.bounds) else images
    view.check_shape(images.x)
    rest, third = images.divide(len(images) - len(images) // 3, seed)
    first, second = rest.divide(len(rest) // 2, seed)
    training = None
    if train is not None:
        given = _images(view, train, "train", options, "train")[0].moved(view.bounds)
        training = Part(given.x.astype("float32"), given.y)
    if ood is None:
        ood = {}
    elif not isinstance(ood, Mapping):
        ood = {getattr(ood, "name", "ood"): ood}
    parts: tuple[dict, dict] = ({}, {})
    for number, (name, x) in enumerate(_given(view, dict(ood)).items()):
        if len(x) < 2:
            raise ValueError(f"Expected samples of {name!r} for two halves. Received {len(x)}.")
        order = np.random.default_rng((seed, number)).permutation(len(x))
        for part, rows in zip(parts, (order[: len(x) // 2], order[len(x) // 2 :]), strict=True):
            part[name] = x[np.sort(rows)]
    chosen, calibrated, reported = (
        Part(part.x.astype("float32"), part.y, others, images.name, view.bounds)
        for part, others in zip((first, second, third), (parts[0], {}, parts[1]), strict=True)
    )
    chosen.train = training
    return chosen, calibrated, reported
