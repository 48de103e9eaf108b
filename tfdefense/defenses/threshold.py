from __future__ import annotations

from tfdefense._renamed import renamed_attributes, renamed_keywords
from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.layers import Dustbin
from tfdefense.layers.scores import SCORES


class ThresholdDefense(Defense):
    """Rejects by a detector score of the class scores: the baseline that needs no training.

    Args:
        score: A name in `td.layers.scores.SCORES`, such as "confidence", "energy", or "non-me", the entropy among the classes but
            the best.
        threshold: A threshold of your own on the detector score; None waits for `td.calibrate`.

    Example:

    >>> defended = ThresholdDefense("confidence").attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    """

    __getattr__ = renamed_attributes(metric="score")

    @renamed_keywords(metric="score")
    def __init__(self, score: str = "confidence", threshold: float | None = None):
        if score not in SCORES:
            raise ValueError(f"`score` must be one of {', '.join(map(repr, SCORES))}. Received: {score!r}.")
        self.score = score
        self.threshold = threshold

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return logits, SCORES[self.score]()(logits)


class DustbinDefense(Defense):
    """The dustbin: a classifier with one output more than there are classes, trained to give it what is none of them.

    The last score of the model it is attached to is the dustbin's; the defended model has the other classes. A trained
    classifier without one gets it by `td.graft_dustbin(model)`, keeping its weights. Samples for the dustbin: `td.data.load`
    has out-of-distribution sets, `td.data.interpolate` makes samples between the classes, `td.data.mix` batches of both kinds.

    Args:
        threshold: The dustbin's lead above which a sample is rejected. 0 rejects where the dustbin wins, as in the
            paper; None waits for `td.calibrate`.

    Example:

    >>> defended = DustbinDefense().attach(td.graft_dustbin(model))
    >>> defended(x)["scores"].shape
    TensorShape([8, 10])

    Reference: Abbasi et al., 2018, Towards dependable deep convolutional neural networks with out-distribution learning.
    """

    has_dustbin = True

    def __init__(self, threshold: float | None = 0.0):
        self.threshold = threshold

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return Dustbin()(logits)
