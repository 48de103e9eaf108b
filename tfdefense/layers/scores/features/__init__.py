"""Detector scores of what a hidden layer gives, one a file, and layers that shape it for an energy."""

from tfdefense.layers.scores.features.ash import ASH as ASH
from tfdefense.layers.scores.features.boundary_distance import BoundaryDistance as BoundaryDistance
from tfdefense.layers.scores.features.mahalanobis import Mahalanobis as Mahalanobis
from tfdefense.layers.scores.features.nearest_neighbors import NearestNeighbors as NearestNeighbors
from tfdefense.layers.scores.features.neighbor_guidance import NeighborGuidance as NeighborGuidance
from tfdefense.layers.scores.features.react import ReAct as ReAct
from tfdefense.layers.scores.features.relative_mahalanobis import RelativeMahalanobis as RelativeMahalanobis
from tfdefense.layers.scores.features.scale import Scale as Scale
from tfdefense.layers.scores.features.virtual_logit import VirtualLogit as VirtualLogit
