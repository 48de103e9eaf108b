"""What can be proved of a defended model: radii in which no perturbation changes its class, bounds on what it says in a ball."""

from tfdefense.certificates.intervals import interval_bounds
from tfdefense.certificates.ood import CertifiedOOD, certify_ood, guaranteed_auroc
from tfdefense.certificates.smoothing import Certified, certify, lower_bound

__all__ = ["Certified", "CertifiedOOD", "certify", "certify_ood", "guaranteed_auroc", "interval_bounds", "lower_bound"]
