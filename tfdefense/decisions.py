"""What a model says of a batch, whatever kind of model it is: a defended one, a plain one, a loaded SavedModel."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Decisions:
    """Scores, suspicion (`None` for a plain classifier) and label (`-1` = rejected) of each sample."""

    scores: np.ndarray
    suspicion: np.ndarray | None
    label: np.ndarray


def decide(model, x, batch_size=256):
    """Runs a Keras model over `x` in batches, without training behaviour."""
    parts = [model(x[i : i + batch_size], training=False) for i in range(0, len(x), batch_size)]
    if not isinstance(parts[0], dict):
        scores = np.concatenate([np.asarray(part) for part in parts])
        return Decisions(scores, None, scores.argmax(axis=1).astype("int32"))
    return Decisions(**{k: np.concatenate([np.asarray(p[k]) for p in parts]) for k in ("scores", "suspicion", "label")})
