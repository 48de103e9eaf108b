"""Keras layers, written with keras.ops alone: they run on every Keras backend."""

from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.kernel_density import KernelDensity
from tfdefense.layers.reject import Join, Reject, Threshold
from tfdefense.layers.reverse_logits import ReverseLogits
from tfdefense.layers.statistics import Confidence, Dustbin, NonMaximalEntropy

__all__ = [
    "AdaptableLayer",
    "Confidence",
    "Dustbin",
    "Join",
    "KernelDensity",
    "NonMaximalEntropy",
    "Reject",
    "ReverseLogits",
    "Threshold",
]
