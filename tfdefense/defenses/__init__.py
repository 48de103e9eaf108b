"""Defenses: each attaches layers to a classifier that is already there."""

from tfdefense.defenses.base import AllOf, AnyOf, Defense
from tfdefense.defenses.rejection import DeepNeuralRejection, NeuralRejection, compress
from tfdefense.defenses.scores import OutDistribution, ThresholdDefense

__all__ = [
    "AllOf",
    "AnyOf",
    "DeepNeuralRejection",
    "Defense",
    "NeuralRejection",
    "OutDistribution",
    "ThresholdDefense",
    "compress",
]
