"""Keras layers, written with keras.ops alone: they run on every Keras backend."""

from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.reject import Join, Reject, Threshold
from tfdefense.layers.statistics import Confidence, Dustbin, NonMaximalEntropy

__all__ = ["AdaptableLayer", "Confidence", "Dustbin", "Join", "NonMaximalEntropy", "Reject", "Threshold"]
