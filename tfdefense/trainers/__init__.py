"""Models whose `fit` attacks a part of each batch: a classifier, or a detector branch."""

from tfdefense.trainers.adversarial import AdversarialTraining
from tfdefense.trainers.detector import DetectorTraining, twins

__all__ = ["AdversarialTraining", "DetectorTraining", "twins"]
