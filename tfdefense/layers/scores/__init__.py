"""Detector scores, one a file: a layer that gives one number a sample, which grows with suspicion."""

from typing import Any

from tfdefense.layers.scores.best_score import BestScore
from tfdefense.layers.scores.confidence import Confidence
from tfdefense.layers.scores.dustbin import Dustbin as Dustbin
from tfdefense.layers.scores.energy import Energy
from tfdefense.layers.scores.entropy import Entropy
from tfdefense.layers.scores.features import (
    ASH,
    BoundaryDistance,
    Mahalanobis,
    NearestNeighbors,
    NeighborGuidance,
    ReAct,
    RelativeMahalanobis,
    Scale,
    VirtualLogit,
)
from tfdefense.layers.scores.generalized_entropy import GeneralizedEntropy
from tfdefense.layers.scores.kernel_density import KernelDensity as KernelDensity
from tfdefense.layers.scores.kl_matching import KLMatching
from tfdefense.layers.scores.non_maximal_entropy import NonMaximalEntropy

# Scores that are computed from class scores alone and need no samples, as the tests know them.
SCORES = {
    "confidence": Confidence,
    "energy": Energy,
    "entropy": Entropy,
    "gen": GeneralizedEntropy,
    "max-logit": BestScore,
    "non-me": NonMaximalEntropy,
}
# All that `td.ThresholdDefense` takes: also those that need training samples or the features of a hidden layer.
POST_HOC: dict[str, type[Any]] = {
    **SCORES,
    "ash": ASH,
    "fdbd": BoundaryDistance,
    "kl-matching": KLMatching,
    "knn": NearestNeighbors,
    "mahalanobis": Mahalanobis,
    "nnguide": NeighborGuidance,
    "react": ReAct,
    "rmds": RelativeMahalanobis,
    "scale": Scale,
    "vim": VirtualLogit,
}
