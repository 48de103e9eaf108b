"""Detector scores that look at what the classifier says around a sample: they run it again, and its gradient, inside the graph."""

from tfdefense.layers.neighborhood.consistency import Consistency as Consistency
from tfdefense.layers.neighborhood.first_order_radius import FirstOrderRadius as FirstOrderRadius
