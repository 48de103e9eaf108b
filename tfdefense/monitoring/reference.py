"""What held-out samples looked like when a model was calibrated: a small JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from tfdefense._files import plain, write_text
from tfdefense._untrusted import read_json
from tfdefense._validation import Model, PathLike, check_numbers

KIND = "tfdefense monitor reference"
FEWEST = 40
# Suspicions that are kept to compare others with, one by one.
_KEPT = 1000
# Shares of the held-out samples below the edges of the bins. Finer where samples are rejected.
_SHARES = (*np.arange(1, 20) / 20, 0.975, 0.99, 0.995)
# Only so many samples on either side of an edge make it more than chance.
_BESIDE = 2


def reference(
    defended: Model,
    x: Any,
    path: PathLike | None = None,
    *,
    max_rejected: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """What a `td.Monitor` compares a service with: the suspicions of held-out samples, as a dict and a JSON file.

    Args:
        defended: A defended model, calibrated.
        x: Clean samples as the service will see them, such as those that it was calibrated on, but none that it was trained or
            adapted on. An array, a data set of batches or paths, as for `td.predict`.
        path: Where to write it.
        max_rejected: What the calibration promised, to be shown beside.
        seed: Of the choice of samples for the edges of the bins.

    Example:

    >>> found = reference(defended, x_held_out)
    >>> found["samples"], len(found["suspicion"])
    (397, 397)
    """
    from tfdefense.prediction import predict

    said = predict(defended, x)
    if said is None or said.suspicion is None:
        raise ValueError("A monitor watches the suspicion. Received a model that rejects nothing: attach a defense first.")
    return of_suspicion(said.suspicion, path, max_rejected=max_rejected, seed=seed, detectors=said.detectors)


def of_suspicion(
    suspicion: ArrayLike,
    path: PathLike | None = None,
    *,
    max_rejected: float | None = None,
    seed: int = 0,
    detectors: tuple[str, ...] = (),
) -> dict[str, Any]:
    """A reference from suspicions that are known already, such as those of another program.

    Example:

    >>> of_suspicion(np.linspace(-3, 0.1, 100))["rejected"]
    4

    Args:
        suspicion: Suspicion of each held-out sample.
        path, max_rejected, seed: As of `reference`.
        detectors: Names of the detectors, to be shown beside.
    """
    suspicion = check_numbers(suspicion, "suspicion")
    judged = suspicion[np.isfinite(suspicion)]
    if len(judged) < FEWEST:
        raise ValueError(f"A reference needs at least {FEWEST} held-out samples that the model can judge. Received {len(judged)}.")
    shuffled = np.random.default_rng(seed).permutation(judged)
    # One part says where the edges are, the other is the pool that the service is compared with.
    edges, pool = bin_edges(shuffled[: len(shuffled) // 2]), shuffled[len(shuffled) // 2 :]
    content = {
        "kind": KIND,
        "version": 1,
        "samples": len(suspicion),
        "rejected": int((suspicion > 0).sum()),
        "max_rejected": max_rejected,
        "detectors": list(detectors),
        "edges": edges,
        "pool": np.bincount(np.searchsorted(edges, pool), minlength=len(edges) + 1),
        "suspicion": np.sort(shuffled[:_KEPT]),
    }
    content = plain(content)
    if path is not None:
        import json

        write_text(path, json.dumps(content))
    return content


def bin_edges(suspicion: np.ndarray) -> np.ndarray:
    """Quantiles, as far as there are samples beside them."""
    count = len(suspicion)
    shares = [share for share in _SHARES if min(share, 1 - share) * count >= _BESIDE]
    # As the file holds them: what is compared must be cut in the same way before and after.
    return np.unique([float(f"{edge:.6g}") for edge in np.quantile(suspicion, shares)])


def checked_reference(found: PathLike | dict[str, Any]) -> dict[str, Any]:
    """A reference from its file, or as it is, with all that a monitor needs."""
    where = "The reference" if isinstance(found, dict) else str(found)
    content = found if isinstance(found, dict) else read_json(Path(found))
    if content.get("kind") != KIND or content.get("version") != 1:
        raise ValueError(f"{where} is no reference of a monitor. Make one: `td.monitoring.reference(defended, x_held_out, path)`.")
    try:
        edges, pool, kept = (np.asarray(content[name], "float64") for name in ("edges", "pool", "suspicion"))
        samples, rejected = int(content["samples"]), int(content["rejected"])
        right = len(pool) == len(edges) + 1 and (np.diff(edges) > 0).all() and (pool >= 0).all() and pool.sum() > 0
        right = right and len(kept) > 0 and np.isfinite(kept).all() and 0 <= rejected <= samples and samples > 0
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise ValueError(f"{where} is damaged: its counts and edges do not fit. Make it again from held-out samples.")
    return content
