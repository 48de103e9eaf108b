"""Models whose `fit` attacks a part of each batch: a classifier, or a detector branch."""

from tfdefense._renamed import renamed_names
from tfdefense.trainers.adversarial import AdversarialTraining
from tfdefense.trainers.detector import DetectorTraining, adversarial_pairs
from tfdefense.trainers.discriminator import DiscriminatorTraining
from tfdefense.trainers.rejecting import ConfidenceCalibratedTraining, RectifiedTraining

__all__ = [
    "AdversarialTraining",
    "ConfidenceCalibratedTraining",
    "DetectorTraining",
    "DiscriminatorTraining",
    "RectifiedTraining",
    "adversarial_pairs",
]

__getattr__ = renamed_names(__name__, twins="adversarial_pairs")
