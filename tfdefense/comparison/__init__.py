"""Which defense to take: candidates chosen on one part of held-out samples, calibrated on another and reported on a third."""

from tfdefense.comparison.comparing import compare
from tfdefense.comparison.result import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]
