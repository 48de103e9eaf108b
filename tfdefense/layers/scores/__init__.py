"""Detector scores, one a file: a layer that gives one number a sample, which grows with suspicion."""

from tfdefense.layers.scores.best_score import BestScore
from tfdefense.layers.scores.confidence import Confidence
from tfdefense.layers.scores.dustbin import Dustbin
from tfdefense.layers.scores.kernel_density import KernelDensity
from tfdefense.layers.scores.non_maximal_entropy import NonMaximalEntropy

__all__ = ["BestScore", "Confidence", "Dustbin", "KernelDensity", "NonMaximalEntropy"]
