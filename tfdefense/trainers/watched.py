"""The one detector branch of a defended model, and the maps that it watches."""

from __future__ import annotations

from typing import Any

from tfdefense._validation import Model
from tfdefense.graph import walk
from tfdefense.layers import DetectorBranch


def watched(defended: Model) -> tuple[DetectorBranch, Any]:
    found = [(operation, node) for operation, node in walk(defended) if isinstance(operation, DetectorBranch)]
    if len(found) != 1:
        raise ValueError(
            f"Expected a defended model with one detector branch. Received '{defended.name}', which has {len(found)}. "
            'Attach one alone: `td.AdversaryDetector("name of a layer").attach(model)`.'
        )
    ((branch, node),) = found
    return branch, node.arguments.keras_tensors[0]
