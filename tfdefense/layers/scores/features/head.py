"""What scores share that look at the last Dense layer: its weights, as the graph of the model has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from tfdefense.layers.scores.fitted import PairScore, checked_features


class HeadScore(PairScore):
    """A score of features and of the class scores that a last Dense layer makes of them, which knows the weights of that layer.

    In a model it finds them by itself: between features and class scores lies a function that is affine, so its values at 0 and at
    the unit vectors tell all of it, whatever it is made of. They are read in `adapt`: after more training, adapt again.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._of_graph: Callable[[], Any] = lambda: None

    def compute_output_spec(self, features, scores):
        if not self.built:
            self.build(features.shape, scores.shape)
        # The first time: a copy of the model calls the layer again, on other layers of the same weights.
        if self._of_graph() is None and all(hasattr(tensor, "_keras_history") for tensor in (features, scores)):
            # In a function: Keras would take what an attribute holds for parts of this layer.
            self._of_graph = lambda: (_uncast(features), scores)
        return keras.KerasTensor(features.shape[:1], dtype="float32")

    def adapt(
        self, features: tuple[ArrayLike, ArrayLike], labels: ArrayLike, head: tuple[ArrayLike, ArrayLike] | None = None
    ) -> None:
        """Stores what the score needs of training samples and of the last Dense layer.

        Args:
            features: The pair (features, scores) that the layer is called with.
            labels: Class of each, whole numbers.
            head: Kernel, of shape (width, classes), and bias of the Dense layer, where this layer is in no model to find them.
        """
        rows, scores = features
        rows, labels = checked_features(rows, labels, least=2)
        scores, _ = checked_features(scores, labels, name="scores")
        if not self.built:
            self.build(rows.shape, scores.shape)
        kernel, bias = (np.asarray(part, "float64") for part in head or self._head())
        if kernel.shape != (rows.shape[1], scores.shape[1]) or bias.shape != scores.shape[1:]:
            raise ValueError(
                f"Expected the kernel and bias of a Dense layer from {rows.shape[1]} features to {scores.shape[1]} classes. "
                f"Received shapes {kernel.shape} and {bias.shape}."
            )
        state = self.fitted(rows, scores, kernel, bias)
        self.keep(**{name: np.asarray(value, "float32") for name, value in state.items()})

    def fitted(self, features: np.ndarray, scores: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> dict[str, Any]:
        """The state, from training samples and the weights of the last Dense layer, all in float64."""
        raise NotImplementedError

    def _head(self):
        tensors = self._of_graph()
        if tensors is None:
            raise ValueError(
                f"Layer '{self.name}' is in no model in which it could find the last Dense layer. "
                "Pass `head=(kernel, bias)`, or attach `td.ThresholdDefense` to a model."
            )
        function = keras.Function(*tensors)
        width = tensors[0].shape[-1]
        # Also a point between: what is not affine shows there.
        points = np.concatenate([np.zeros((1, width)), np.eye(width), np.full((1, width), 0.5)]).astype("float32")
        found = keras.ops.convert_to_numpy(function(points)).astype("float64")
        bias, kernel = found[0], found[1:-1] - found[0]
        if not np.allclose(found[-1], 0.5 * kernel.sum(0) + bias, rtol=0.02, atol=0.02 * (1.0 + np.abs(kernel).sum(0))):
            raise ValueError(
                f"Layer '{self.name}' needs class scores that a Dense layer makes of the features it is given. Received others: an "
                "activation or a further layer lies between. Use 'knn', 'mahalanobis' or 'energy', which do without."
            )
        return kernel, bias


def _uncast(tensor):
    """What a layer gave, where Keras has cast it on the way into another: class scores come from that."""
    while type(tensor._keras_history.operation).__name__ == "Cast":
        history = tensor._keras_history
        tensor = history.operation._inbound_nodes[history.node_index].arguments.keras_tensors[0]
    return tensor
