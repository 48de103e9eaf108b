"""Layers of the defenses whose claims can be proved or are trained for: noisy votes, rectified confidence, joint probability."""

from tfdefense.layers.robust.joint import JointProbability
from tfdefense.layers.robust.noisy_votes import NoisyCopies, NoisyVotes
from tfdefense.layers.robust.rectified import RectifiedConfidence, Rectifier

__all__ = ["JointProbability", "NoisyCopies", "NoisyVotes", "RectifiedConfidence", "Rectifier"]
