"""Heads on features that stay as they are: logistic regressions, with or without other things beside the classes."""

from typing import NamedTuple

import numpy as np

from tfdefense.defenses.grafting import soft_regression

# Inverse strengths of the head's penalty, of which cross-validation chooses one.
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
# What all other things together weigh, in times of the samples of the classes; the weight of outlier exposure in its paper.
WEIGHT = 0.5
KINDS = ("plain", "exposure", "dustbin", "ImageNet dustbin")


class Head(NamedTuple):
    """A linear head. With `thousand`, ImageNet's own logits, the dustbin's score is added to their log-sum-exp.

    Args:
        kernel, bias: Of the classes, and of the dustbin as the last output where there is one.
        classes: Number of classes.
        thousand: Kernel and bias of ImageNet's logits, or None.
    """

    kernel: np.ndarray
    bias: np.ndarray
    classes: int
    thousand: tuple | None = None

    @property
    def has_dustbin(self):
        return self.kernel.shape[1] > self.classes


def fitted(kind, x, y, others=None, thousand=None, own=None, strength=1e-2):
    """A `Head` of one of `KINDS` on features.

    "exposure" gives others the same share of each class (Hendrycks et al. 2019), "dustbin" an output of their own (Abbasi et al.
    2018). "ImageNet dustbin" is a dustbin too, which begins with what the body has learnt: the classes with ImageNet's rows of
    them, the dustbin with the log-sum-exp of the thousand. The penalty is then on the difference from that.

    Args:
        x, y: Features and classes.
        others: Features of things that are none of the classes; only "ImageNet dustbin" can do without.
        thousand: Kernel and bias of ImageNet's logits.
        own: Their columns that are the classes.
        strength: Inverse strength of the penalty.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {', '.join(map(repr, KINDS))}. Received: {kind!r}.")
    classes, prior = int(y.max()) + 1, kind == "ImageNet dustbin"
    others = x[:0] if others is None or kind == "plain" else others
    dustbin = kind.endswith("dustbin")
    outputs = classes + dustbin
    mean, spread = x.mean(0), x.std(0) + 1e-6
    samples = np.concatenate([x, others])
    start = _start(samples, thousand, own) if prior else np.zeros((len(samples), outputs))
    shares = np.eye(outputs)[np.full(len(others), classes)] if dustbin else np.full((len(others), classes), 1 / classes)
    each = np.repeat([1.0, WEIGHT * len(x) / max(len(others), 1)], [len(x), len(others)])
    kernel, bias = soft_regression((samples - mean) / spread, start, np.concatenate([np.eye(outputs)[y], shares]), each, strength)
    kernel = kernel / spread[:, None]
    bias = bias - mean @ kernel
    if prior:
        kernel[:, :classes] += thousand[0][:, own]
        bias[:classes] += thousand[1][own]
    return Head(kernel.astype("float32"), bias.astype("float32"), classes, thousand if prior else None)


def _start(x, thousand, own):
    from scipy.special import logsumexp

    logits = x @ thousand[0] + thousand[1]
    return np.concatenate([logits[:, own], logsumexp(logits, axis=1, keepdims=True)], axis=1).astype("float64")


def best_strength(x, y):
    """The inverse strength by which a plain head predicts best in five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    standard = (x - x.mean(0)) / (x.std(0) + 1e-6)
    models = [LogisticRegression(C=strength, max_iter=200) for strength in STRENGTHS]
    return STRENGTHS[int(np.argmax([cross_val_score(one, standard, y, cv=5, scoring="neg_log_loss").mean() for one in models]))]


def on(model, features, head):
    """A Keras model from the input of a network to the logits of a head on its features, the dustbin's last."""
    import keras

    from tfdefense.layers.scores import Energy

    layers, tap = keras.layers, features
    kernel, bias = head.kernel, head.bias
    logits = layers.Dense(head.classes, name="logits")
    out, added = logits(tap), layers.Dense(1, name="dustbin_score")
    if head.has_dustbin:
        score = added(tap)
        if head.thousand is not None:
            # The name by which `td.zoo.load` finds it: its weights are ImageNet's own, so they are not shipped again.
            thousand = layers.Dense(len(head.thousand[1]), name="imagenet_logits")
            energy = layers.Reshape((1,), name="imagenet_energy")(Energy(name="energy_of_imagenet")(thousand(tap)))
            score = layers.Subtract(name="dustbin")([score, energy])
            thousand.set_weights(list(head.thousand))
        out = layers.Concatenate(name="with_dustbin")([out, score])
        added.set_weights([kernel[:, head.classes :], bias[head.classes :]])
    logits.set_weights([kernel[:, : head.classes], bias[: head.classes]])
    return keras.Model(model.input, out, name=model.name)
