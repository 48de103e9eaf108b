"""Defenses: each attaches layers to a classifier that is already there."""

from tfdefense._renamed import renamed_names
from tfdefense.defenses.adversary_detector import AdversaryDetector
from tfdefense.defenses.consistency import ConsistencyRejection, RadiusRejection
from tfdefense.defenses.defense import AllOf, AnyOf, Defense
from tfdefense.defenses.density import DensityDefense, capping_error
from tfdefense.defenses.grafting import graft_dustbin, graft_head
from tfdefense.defenses.joint import JointDiscriminator
from tfdefense.defenses.rectified import RectifiedRejection
from tfdefense.defenses.rejection import DeepNeuralRejection, NeuralRejection, compress
from tfdefense.defenses.safetynet import SafetyNet
from tfdefense.defenses.smoothing import Smoothed
from tfdefense.defenses.threshold import DustbinDefense, ThresholdDefense
from tfdefense.defenses.watchable import watchable
from tfdefense.defenses.wrapped import PerClass, TemperatureScaled

__all__ = [
    "AdversaryDetector",
    "AllOf",
    "AnyOf",
    "ConsistencyRejection",
    "DeepNeuralRejection",
    "Defense",
    "DensityDefense",
    "JointDiscriminator",
    "NeuralRejection",
    "DustbinDefense",
    "PerClass",
    "RadiusRejection",
    "RectifiedRejection",
    "SafetyNet",
    "Smoothed",
    "TemperatureScaled",
    "ThresholdDefense",
    "capping_error",
    "compress",
    "graft_dustbin",
    "graft_head",
    "watchable",
]

__getattr__ = renamed_names(__name__, OutDistribution="DustbinDefense")
