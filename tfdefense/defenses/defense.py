from __future__ import annotations

import contextvars
from collections.abc import Sequence

from tfdefense._validation import Bounds, Model, Tensor
from tfdefense.contract import defend
from tfdefense.graph import behind, expose, tell_unloadable, unnoted
from tfdefense.layers import Join, Threshold

_bounds: contextvars.ContextVar[Bounds] = contextvars.ContextVar("bounds", default=(0.0, 1.0))


class Defense:
    """Attaches a detector to an existing classifier.

    A subclass says which inner `layers` it watches and writes `connect`. Attributes:
        layers: Names of the watched layers.
        threshold: The detector score above which a sample is rejected; None waits for `td.calibrate`.
        has_dustbin: Whether the model's last score is not a class but the dustbin, which this defense takes away.
        bounds: Lowest and highest value of an input, while `attach` connects the layers; None is any finite number.

    Example:

    >>> class Brightness(Defense):
    ...     def __init__(self, layer):
    ...         self.layers = (layer,)
    ...
    ...     def connect(self, logits, taps):
    ...         return logits, keras.ops.mean(taps[self.layers[0]], axis=-1)
    >>> defended = Brightness("features").attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    """

    layers: tuple[str, ...] = ()
    threshold: float | None = None
    has_dustbin = False

    @property
    def bounds(self) -> Bounds:
        # Of the model that is being attached to, also for defenses inside others.
        return _bounds.get()

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """From the logits and the watched layers' outputs: class scores, and a detector score that grows with suspicion."""
        raise NotImplementedError

    def suspect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Class scores and suspicion."""
        scores, detector_score = self.connect(logits, taps)
        return scores, Threshold(self.threshold)(detector_score)

    def attach(
        self, model: Model, *, bounds: Bounds = (0.0, 1.0), name: str = "defended", class_names: Sequence[str] | None = None
    ) -> Model:
        """Gives a defended model that shares the weights of `model`, which stays as it is.

        Args:
            model: A functional or Sequential Keras classifier, with or without a softmax.
            bounds: Lowest and highest value of its inputs; anything else is rejected. None, for tabular or standardised
                features: any finite number is valid.
            name: Name of the defended model.
            class_names: Names of the classes in the order of its scores, a dustbin left out. They are kept in its files; data
                of named classes, such as folders of images, are numbered by them.

        Warns of a `Lambda` of a Python lambda and of a `TFSMLayer`: a file with them is loaded with `safe_mode=False` alone.
        """
        with unnoted(model):
            exposed = expose(model, self.layers)
            tell_unloadable(model)
            token = _bounds.set(bounds)
            try:
                scores, suspicion = self.suspect(exposed.logits, exposed.taps)
            finally:
                _bounds.reset(token)
            # A dustbin is no class of the undefended classifier: an attack that starts from its examples would end in there.
            base = exposed.logits[:, :-1] if self.has_dustbin else exposed.logits
            _give_free_names([exposed.logits, *exposed.taps.values()], [scores, suspicion, base])
            return defend(exposed.input, scores, suspicion, base=base, bounds=bounds, name=name, class_names=class_names)


def _give_free_names(theirs, ours):
    """Keras knows the names that it made up itself, and nothing of those that a user gave or that came from a file."""
    known = {id(operation): operation for operation, _ in behind(theirs)}
    taken = {operation.name for operation in known.values()}
    for operation, _ in behind(ours):
        if id(operation) not in known:
            known[id(operation)], name, number = operation, operation.name, 0
            while operation.name in taken:
                number += 1
                operation.name = f"{name}_of_defense" + (f"_{number}" if number > 1 else "")
            taken.add(operation.name)


class Joined(Defense):
    """Several defenses on one model, each with thresholds of its own."""

    how: str

    def __init__(self, *defenses: Defense):
        if len(defenses) < 2 or not all(isinstance(defense, Defense) for defense in defenses):
            raise ValueError(
                f"Expected two or more defenses, such as `td.{type(self).__name__}(td.DustbinDefense(), td.ThresholdDefense())`. "
                f"Received: {', '.join(type(defense).__name__ for defense in defenses) or 'none'}."
            )
        self.defenses = defenses
        self.layers = tuple(dict.fromkeys(name for defense in defenses for name in defense.layers))
        self.has_dustbin = any(defense.has_dustbin for defense in defenses)

    def suspect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        # A dustbin's score is no class to the other detectors.
        classes = logits[:, :-1] if self.has_dustbin else logits
        pairs = [defense.suspect(logits if defense.has_dustbin else classes, taps) for defense in self.defenses]
        return pairs[0][0], Join(self.how)([suspicion for _, suspicion in pairs])


class AnyOf(Joined):
    """Rejects what any of several defenses rejects. The class scores are those of the first.

    Args:
        defenses: Two or more defenses.

    Example:

    >>> defended = AnyOf(td.ThresholdDefense("confidence"), td.ThresholdDefense("energy")).attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    """

    how = "any"


class AllOf(Joined):
    """Rejects what all of several defenses reject. The class scores are those of the first.

    Args:
        defenses: Two or more defenses.

    Example:

    >>> defended = AllOf(td.ThresholdDefense("confidence"), td.ThresholdDefense("energy")).attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    """

    how = "all"
