from __future__ import annotations

import inspect
from typing import Any

from tfdefense._renamed import renamed_attributes, renamed_keywords
from tfdefense._suggest import did_you_mean
from tfdefense._validation import Tensor
from tfdefense.defenses.defense import Defense
from tfdefense.defenses.last_dense import into_last_dense, logits_of
from tfdefense.graph import before_last_dense
from tfdefense.layers import Dustbin
from tfdefense.layers.scores import POST_HOC, Energy
from tfdefense.layers.scores.features.head import HeadScore
from tfdefense.layers.scores.features.shaping import Shaping


class ThresholdDefense(Defense):
    """Rejects by a detector score that is computed behind a trained classifier, which stays as it is: any post-hoc score.

    | score | options | computed from | set by |
    | --- | --- | --- | --- |
    | "confidence", "max-logit", "entropy", "non-me" | | class scores | `td.calibrate` |
    | "energy" | temperature | class scores | `td.calibrate` |
    | "gen" | gamma, top | class scores | `td.calibrate` |
    | "kl-matching" | | class scores | `td.adapt` |
    | "ash" | percentile, form | features, shaped, and their class scores | `td.calibrate` |
    | "scale" | percentile | features, shaped, and their class scores | `td.calibrate` |
    | "react" | percentile | features, shaped, and their class scores | `td.adapt` |
    | "mahalanobis", "rmds" | | features | `td.adapt` |
    | "knn" | k, max_points, components, storage, seed | features | `td.adapt` |
    | "nnguide" | k, max_points, components, storage, seed | features and class scores | `td.adapt` |
    | "vim" | components | features and class scores | `td.adapt` |
    | "fdbd" | | features and class scores | `td.adapt` |

    The layers in `td.layers.scores` say what each computes and who proposed it; docs/scores.md what each costs.

    Args:
        score: A name of this table.
        threshold: A threshold of your own on the detector score; None waits for `td.calibrate`.
        layer: Name of the layer that gives the features; None is what the last Dense layer takes. "knn", "nnguide", "mahalanobis"
            and "rmds" take any; the others that look at features need that Dense layer behind them.
        options: Of the score, such as `k=50`.

    Example:

    >>> defended = ThresholdDefense("confidence").attach(model)
    >>> td.calibrate(defended, x_held_out, max_rejected=0.05) <= 0.05
    True
    >>> defended = ThresholdDefense("knn", k=10).attach(model)
    >>> defended = td.adapt(defended, x_train, y_train, calibration=x_held_out, max_rejected=0.05)
    >>> float((defended(x_held_out)["label"].numpy() == -1).mean()) <= 0.05
    True
    """

    __getattr__ = renamed_attributes(metric="score")

    @renamed_keywords(metric="score")
    def __init__(self, score: str = "confidence", threshold: float | None = None, *, layer: str | None = None, **options: Any):
        if score not in POST_HOC:
            raise ValueError(f"`score` must be one of {', '.join(map(repr, POST_HOC))}. Received: {score!r}.")
        self.score, self.threshold, self.options = score, threshold, options
        kind = POST_HOC[score]
        known = [name for name in inspect.signature(kind.__init__).parameters if name not in ("self", "kwargs", "forms")]
        for name in options:
            if name not in known:
                has = f"It has {', '.join(f'`{each}`' for each in known)}." if known else "It has none."
                raise ValueError(f"The score '{score}' has no option `{name}`. {has}{did_you_mean(name, known)}")
        # Built anew for each model; made here too, so that a wrong argument is named at once.
        made = kind(**options)
        self.layers = () if layer is None else (layer,)
        if layer is not None and "features" not in made.takes:
            raise ValueError(f"The score '{score}' looks at class scores alone. Expected no `layer`. Received: {layer!r}.")

    def connect(self, logits: Tensor, taps: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        score = POST_HOC[self.score](**self.options)
        if "features" not in score.takes:
            return logits, score(logits)
        shapes = getattr(score, "shapes_features", False)
        if not (shapes or isinstance(score, HeadScore)):
            advice = f'td.ThresholdDefense("{self.score}", layer="name")'
            features = taps[self.layers[0]] if self.layers else into_last_dense(logits, advice)
        else:
            features = self._into_head(logits, taps)
        if shapes:
            return logits, Energy()(logits_of(score(features), logits))
        return logits, score(features) if score.takes == ("features",) else score(features, logits)

    def _into_head(self, logits, taps):
        """What the last Dense layer takes, for a score that needs that layer."""
        features, last = before_last_dense(logits)
        if features is None:
            raise ValueError(
                f"The score '{self.score}' needs the last Dense layer. The model ends in '{last.name}' ({type(last).__name__}), "
                "behind which none is in sight. Attach to the model that ends in it, or take a score that "
                "needs none: 'knn', 'energy'."
            )
        if len(features.shape) != 2:
            raise ValueError(
                f"The score '{self.score}' needs one row of features a sample before the last Dense layer '{last.name}'. Received "
                f"shape {tuple(features.shape)}. Take 'knn' or 'mahalanobis', which average feature maps."
            )
        if self.layers and taps[self.layers[0]] is not features:
            raise ValueError(
                f"The score '{self.score}' needs what the last Dense layer '{last.name}' takes. Received layer "
                f"'{self.layers[0]}'. Leave `layer` out."
            )
        if isinstance(POST_HOC[self.score](**self.options), Shaping) and last.compute_dtype == "float16":
            raise ValueError(
                f"The score '{self.score}' multiplies features by exponentials, which float16 can't hold. Layer '{last.name}' "
                "computes in float16: make it with `dtype=\"float32\"`, or take 'react'."
            )
        return features


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
