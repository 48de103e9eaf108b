"""The numbers of the papers, each a function of what a model said. NumPy alone, until a model is run."""

from tfdefense._renamed import renamed_names

from .benign import benign_perturbation
from .curves import SecurityCurve, WorstCaseCurve, security_curve, worst_case_curve
from .detector_metrics import Roc, auc, detectability, roc
from .distances import Distortion, distortion
from .intervals import share_interval
from .outcomes import Outcomes, evaluate, successful_pairs
from .rejection_cost import Plausibility, forced_rejection, plausibility, stratified_error
from .risk_coverage import RiskCoverage, aurc, risk_coverage

__all__ = [
    "Distortion",
    "Outcomes",
    "Plausibility",
    "RiskCoverage",
    "Roc",
    "SecurityCurve",
    "WorstCaseCurve",
    "auc",
    "aurc",
    "benign_perturbation",
    "detectability",
    "distortion",
    "evaluate",
    "forced_rejection",
    "plausibility",
    "risk_coverage",
    "roc",
    "security_curve",
    "share_interval",
    "stratified_error",
    "successful_pairs",
    "worst_case_curve",
]

__getattr__ = renamed_names(__name__, harmless="benign_perturbation")
