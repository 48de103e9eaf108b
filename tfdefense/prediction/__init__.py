"""Labels for sets of any size: `predict` streams them, `stream` gives them batch by batch, `write` puts them into a table."""

from tfdefense._reasons import ALL_REASONS as REASONS
from tfdefense._tables import read_table, write
from tfdefense.prediction.deciding import decider, detectors
from tfdefense.prediction.labels import predict
from tfdefense.prediction.predicting import Predictions, decide, stream

__all__ = ["REASONS", "Predictions", "decide", "decider", "detectors", "predict", "read_table", "stream", "write"]
