"""Differentiable surrogates of defenses whose gradients are zero or missing: what an adaptive attacker would build."""

from __future__ import annotations

import keras

from tfdefense._renamed import renamed_keywords
from tfdefense._validation import Model
from tfdefense.graph import as_functional, laid_again, unnoted
from tfdefense.layers import Differentiable


def has_surrogate(model: Model) -> bool:
    """Whether a Keras model has a layer with `smooth`, submodels' layers included."""
    return any(has_surrogate(layer) if isinstance(layer, keras.Model) else _offers_smooth(layer) for layer in model.layers)


def has_steps(model: Model) -> bool:
    """Whether a Keras model has a layer whose only useful gradient is that of its `smooth`, submodels' layers included.

    A layer with `smooth` counts as one, unless it says `has_slope = True`.
    """
    return any(
        has_steps(layer) if isinstance(layer, keras.Model) else _offers_smooth(layer) and not getattr(layer, "has_slope", False)
        for layer in model.layers
    )


@renamed_keywords(straight_through="exact_forward")
def differentiable(model: Model, slope: float = 10.0, widen: float = 1.0, *, exact_forward: bool = False) -> Model:
    """The differentiable surrogate of a model: every layer that offers `smooth` gives its smooth version; all weights are shared.

    The outputs are those of the model: a defended one has scores, suspicion and label, but the suspicion is an approximation
    that an attack can descend. It is no defense: whether a sample evades, the model itself says. `td.attacks.BPDA` does
    all of this.

    Args:
        model: A defended model, or any functional or Sequential one.
        slope: Steepness of what stands in for a step, in the units that the layer names.
        widen: How many times as wide RBF kernels are.
        exact_forward: Leave all outputs as they are and take only the gradients of the smooth versions (BPDA).

    Example:

    >>> defended = td.SafetyNet(["conv_1"], threshold=0.0).attach(model)
    >>> x_adv = td.attacks.BIM(0.2)(model, x_train, y_train).x_adv
    >>> defended = td.adapt(defended, x_train, y_train, adversarial=x_adv, max_rejected=None)
    >>> surrogate = differentiable(defended, slope=1e5)
    >>> bool(np.allclose(surrogate(x)["suspicion"], defended(x)["suspicion"], atol=0.01))
    True

    Reference: Lu et al., 2017, SafetyNet: detecting and rejecting adversarial examples robustly, type II attacks.
    """
    model = as_functional(model)
    if not has_surrogate(model):
        raise ValueError(
            f"Model '{model.name}' has no layer that offers `smooth(inputs, slope, widen)`. If its gradients are those of its "
            "decisions, attack it directly; otherwise write that method for the layer that stops them."
        )

    stand_ins = {}

    def smooth(layer):
        if _offers_smooth(layer):
            return Differentiable(layer, slope, widen, exact_forward, name=f"smoothed_{layer.name}")
        if isinstance(layer, keras.Model) and has_surrogate(layer):
            return differentiable(layer, slope, widen, exact_forward=exact_forward)
        return layer

    def call(layer, *args, **kwargs):
        # A layer may be called more than once, and stays one layer.
        if layer.name not in stand_ins:
            stand_ins[layer.name] = smooth(layer)
        return stand_ins[layer.name](*args, **kwargs)

    with unnoted(model):
        return laid_again(model, call)


def anneal(surrogate: Model, slope: float, widen: float) -> None:
    """Sets how smooth a model made by `differentiable` is."""
    for layer in surrogate.layers:
        if isinstance(layer, Differentiable):
            layer.anneal(slope, widen)
        elif isinstance(layer, keras.Model):
            anneal(layer, slope, widen)


def _offers_smooth(layer):
    return callable(getattr(layer, "smooth", None))
