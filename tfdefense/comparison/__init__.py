"""Which defense to take: candidates set up on one half of held-out samples, and reported on the other."""

from tfdefense.comparison.comparing import compare
from tfdefense.comparison.result import Comparison, Row

__all__ = ["Comparison", "Row", "compare"]
