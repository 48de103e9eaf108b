"""Thresholds that keep a promise on fresh samples: how many are rejected (`rates`), how many of the others are wrong (`risks`)."""

from tfdefense.conformal.rates import NoRoom, TooFew, check_promise, fewest, promise, rank, thresholds
from tfdefense.conformal.risks import NoThreshold, check_risk, risk_promise, risk_thresholds

__all__ = [
    "NoRoom",
    "NoThreshold",
    "TooFew",
    "check_promise",
    "check_risk",
    "fewest",
    "promise",
    "rank",
    "risk_promise",
    "risk_thresholds",
    "thresholds",
]
