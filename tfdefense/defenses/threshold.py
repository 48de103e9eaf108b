from tfdefense.defenses.defense import Defense
from tfdefense.layers import Dustbin
from tfdefense.layers.scores import SCORES


class ThresholdDefense(Defense):
    """Rejects when a metric of the class scores shows doubt: the baseline that needs no training.

    Args:
        metric: A name in `td.layers.scores.SCORES`, such as "confidence", "energy", or "non-me", the entropy among the classes but
            the best.
        threshold: A threshold of your own on the layer's statistic; None waits for `td.calibrate`.

    Example:

    >>> defended = ThresholdDefense("confidence").attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    """

    def __init__(self, metric="confidence", threshold=None):
        if metric not in SCORES:
            raise ValueError(f"`metric` must be one of {', '.join(map(repr, SCORES))}. Received: {metric!r}.")
        self.metric = metric
        self.threshold = threshold

    def connect(self, logits, taps):
        return logits, SCORES[self.metric]()(logits)


class OutDistribution(Defense):
    """The dustbin: a classifier with one output more than there are classes, trained to give it what is none of them.

    The last score of the model it is attached to is the dustbin's; the defended model has the other classes. A trained
    classifier without one gets it by `td.graft_dustbin(model)`, keeping its weights. Samples for the dustbin: `td.data.load`
    has foreign sets, `td.data.interpolate` makes samples between the classes, `td.data.mix` batches of both kinds.

    Args:
        threshold: The dustbin's lead above which a sample is rejected. 0 rejects where the dustbin wins, as in the
            paper; None waits for `td.calibrate`.

    Example:

    >>> defended = OutDistribution().attach(td.graft_dustbin(model))
    >>> defended(x)["scores"].shape
    TensorShape([8, 10])

    Reference: Abbasi et al., 2018, Towards dependable deep convolutional neural networks with out-distribution learning.
    """

    has_dustbin = True

    def __init__(self, threshold=0.0):
        self.threshold = threshold

    def connect(self, logits, taps):
        return Dustbin()(logits)
