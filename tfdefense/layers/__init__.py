"""Keras layers, written with keras.ops alone: they run on every Keras backend."""

from tfdefense._renamed import renamed_names
from tfdefense.layers import scores
from tfdefense.layers.adaptable import AdaptableLayer
from tfdefense.layers.binary_scores import BinaryScores
from tfdefense.layers.classwise_detector_svm import ClasswiseDetectorSVM
from tfdefense.layers.detector_branch import DetectorBranch
from tfdefense.layers.detector_svm import DetectorSVM
from tfdefense.layers.differentiable import Differentiable
from tfdefense.layers.neighborhood import Consistency, FirstOrderRadius
from tfdefense.layers.quantized_relu import QuantizedReLU
from tfdefense.layers.rbf_svm import RBFSVM
from tfdefense.layers.reject import ClassThreshold, Join, Reject, Threshold
from tfdefense.layers.reverse_logits import ReverseLogits
from tfdefense.layers.robust import JointProbability, NoisyCopies, NoisyVotes, RectifiedConfidence, Rectifier
from tfdefense.layers.scores import BestScore, Confidence, Dustbin, KernelDensity, NonMaximalEntropy
from tfdefense.layers.temperature_scaling import TemperatureScaling

__all__ = [
    "RBFSVM",
    "AdaptableLayer",
    "DetectorSVM",
    "BestScore",
    "BinaryScores",
    "ClassThreshold",
    "Confidence",
    "Consistency",
    "DetectorBranch",
    "Differentiable",
    "Dustbin",
    "FirstOrderRadius",
    "Join",
    "JointProbability",
    "KernelDensity",
    "ClasswiseDetectorSVM",
    "NoisyCopies",
    "NoisyVotes",
    "NonMaximalEntropy",
    "QuantizedReLU",
    "RectifiedConfidence",
    "Rectifier",
    "Reject",
    "ReverseLogits",
    "TemperatureScaling",
    "Threshold",
    "scores",
]

__getattr__ = renamed_names(
    __name__, AdversaryMachine="DetectorSVM", MatchedMachines="ClasswiseDetectorSVM", Smoothed="Differentiable"
)
