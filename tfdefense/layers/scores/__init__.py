"""Detector scores, one a file: a layer that gives one number a sample, which grows with suspicion."""

from tfdefense.layers.scores.best_score import BestScore as BestScore
from tfdefense.layers.scores.confidence import Confidence
from tfdefense.layers.scores.dustbin import Dustbin as Dustbin
from tfdefense.layers.scores.energy import Energy
from tfdefense.layers.scores.kernel_density import KernelDensity as KernelDensity
from tfdefense.layers.scores.non_maximal_entropy import NonMaximalEntropy

# Scores that are computed from class scores alone, as `td.ThresholdDefense` and the tests know them.
SCORES = {
    "confidence": Confidence,
    "energy": Energy,
    "non-me": NonMaximalEntropy,
}
