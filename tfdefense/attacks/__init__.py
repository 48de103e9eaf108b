"""Attacks that know whether a model can reject. Objective, norm ball and search are three things, each in its own place."""

from tfdefense._renamed import renamed_names
from tfdefense.attacks import suites
from tfdefense.attacks.base import Attack, Candidates
from tfdefense.attacks.bpda import BPDA, Through  # noqa: F401, the second is an old name
from tfdefense.attacks.combine import Transfer, WorstCase, WorstCaseResult
from tfdefense.attacks.forced import ForcedRejection
from tfdefense.attacks.objectives import (
    CrossEntropy,
    Evade,
    LogitRatio,
    LogSumExp,
    Margin,
    MaximumConfidence,
    Objective,
    Penalty,
    WrongConfidence,
)
from tfdefense.attacks.on_ray import workers
from tfdefense.attacks.result import AttackResult
from tfdefense.attacks.searches.auto_pgd import APGD
from tfdefense.attacks.searches.carlini_wagner import CarliniWagner
from tfdefense.attacks.searches.deepfool import DeepFool
from tfdefense.attacks.searches.dynamic import DynamicAdversary
from tfdefense.attacks.searches.gradient_descent import GradientDescent
from tfdefense.attacks.searches.hop_skip_jump import HopSkipJump
from tfdefense.attacks.searches.impersonation import Impersonation
from tfdefense.attacks.searches.jsma import JSMA
from tfdefense.attacks.searches.minimum_norm import MinimumNorm
from tfdefense.attacks.searches.orthogonal import OrthogonalPGD
from tfdefense.attacks.searches.projected import BIM, FGSM, ILCM, PGD
from tfdefense.attacks.searches.square import Square
from tfdefense.attacks.starts import Accepted, Interpolated, Random, Sample, Transferred
from tfdefense.attacks.substitute import substitute_network
from tfdefense.attacks.suites import get as suite

__all__ = [
    "APGD",
    "Accepted",
    "BIM",
    "BPDA",
    "FGSM",
    "ILCM",
    "JSMA",
    "PGD",
    "Attack",
    "AttackResult",
    "CarliniWagner",
    "CrossEntropy",
    "DeepFool",
    "DynamicAdversary",
    "Evade",
    "Candidates",
    "ForcedRejection",
    "GradientDescent",
    "HopSkipJump",
    "Impersonation",
    "Interpolated",
    "LogSumExp",
    "LogitRatio",
    "Margin",
    "MaximumConfidence",
    "MinimumNorm",
    "Objective",
    "OrthogonalPGD",
    "Penalty",
    "Random",
    "Sample",
    "Square",
    "Transfer",
    "Transferred",
    "WorstCase",
    "WorstCaseResult",
    "WrongConfidence",
    "substitute_network",
    "suite",
    "suites",
    "workers",
]

__getattr__ = renamed_names(__name__, Found="Candidates", Of="Transferred", Strongest="WorstCase")
