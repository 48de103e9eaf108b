"""The steps of a defense as Keras callbacks. Their numbers go into `logs` and the history, like Keras's own."""

from tfdefense.callbacks.training import AdaptDefense, CalibrateRejection, RobustAccuracy

__all__ = ["AdaptDefense", "CalibrateRejection", "RobustAccuracy"]
