"""What can be proved of a defended model: radii in which no perturbation changes its class, bounds on what it says in a ball."""

from tfdefense.certificates.smoothing import Certified, certify, lower_bound

__all__ = ["Certified", "certify", "lower_bound"]
