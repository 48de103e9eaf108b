"""Keras layers, written with keras.ops alone: they run on every Keras backend."""

from tfdefense.layers import scores
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.adversary_machine import AdversaryMachine
from tfdefense.layers.binary_scores import BinaryScores
from tfdefense.layers.detector_branch import DetectorBranch
from tfdefense.layers.matched_machines import MatchedMachines
from tfdefense.layers.quantized_relu import QuantizedReLU
from tfdefense.layers.rbf_svm import RBFSVM
from tfdefense.layers.reject import Join, Reject, Threshold
from tfdefense.layers.reverse_logits import ReverseLogits
from tfdefense.layers.scores import BestScore, Confidence, Dustbin, KernelDensity, NonMaximalEntropy
from tfdefense.layers.smoothed import Smoothed

__all__ = [
    "RBFSVM",
    "AdaptableLayer",
    "AdversaryMachine",
    "BestScore",
    "BinaryScores",
    "Confidence",
    "DetectorBranch",
    "Dustbin",
    "Join",
    "KernelDensity",
    "MatchedMachines",
    "NonMaximalEntropy",
    "QuantizedReLU",
    "Reject",
    "ReverseLogits",
    "Smoothed",
    "Threshold",
    "scores",
]
