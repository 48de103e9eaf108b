"""The losses that recipes name, and what each needs at the end of a model."""

import keras

from tfdefense import losses
from tfdefense.layers import ReverseLogits

LOSSES = {
    "cross_entropy": keras.losses.SparseCategoricalCrossentropy,
    "reverse_cross_entropy": losses.ReverseCrossEntropy,
    "smoothed_cross_entropy": losses.SmoothedCrossEntropy,
    "absolute_error": keras.losses.MeanAbsoluteError,
}


def attach(recipe, model):
    """The model as the recipe's loss needs it, and that loss."""
    if recipe.loss not in LOSSES:
        raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}. Received {recipe.loss!r}.")
    if recipe.loss == "reverse_cross_entropy":
        reversed_ = ReverseLogits(name="reverse_logits")(model.outputs[0])
        model = keras.Model(model.inputs[0], reversed_, name=model.name)
    of_scores = {} if recipe.loss == "absolute_error" else {"from_logits": True}
    return model, LOSSES[recipe.loss](**of_scores, **recipe.loss_options)
