"""The model of photos in the zoo: ten classes of ImageNet on the features of EfficientNet-Lite0.

Only the head and the defense are fitted here and shipped, in minutes; the body is that of `td.zoo.load("imagenet_lite0")`.
"""

import numpy as np

DATASET = "imagenette_small"
BODY = "imagenet_lite0"
# Of `td.ThresholdDefense`; the best one of the table of scores, once that is measured.
DEFENSE = "energy"
NAME = f"imagenette_lite0.{DEFENSE}"
SIZES = {"linf": (1 / 255, 2 / 255), "l2": (0.25, 0.5)}
# What is not said here is as in `evaluation.benchmarks.zoo.Entry`. 500 of the 1,500 training images calibrate the defense.
ABOUT = {
    "dataset": DATASET,
    "summary": "photos of ten classes of ImageNet, 96x96, rejecting by energy",
    "defense": f"a threshold on the score '{DEFENSE}' of a linear head",
    "recipe": BODY,
    "seen": 1_000,
    "fitted": 1_000,
    "suite": "quick-1",
    "body": BODY,
}
# Inverse strengths of the head's penalty, of which cross-validation chooses one.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)


def network(context, images):
    """EfficientNet-Lite0 at the images' size, with logits of their classes, fitted on them."""
    import keras

    from tfdefense.zoo import imagenet
    from tfdefense.zoo.lite0 import FEATURES, efficientnet_lite0

    model = efficientnet_lite0(images.x.shape[1:], len(images.classes))
    imagenet.fill(model)
    body = keras.Model(model.input, model.get_layer(FEATURES).output)
    model.get_layer("logits").set_weights(linear(features(context, body, images.x), images.y))
    return model


def features(context, body, x):
    """What the body makes of images, computed once."""
    from tfdefense import _cache
    from tfdefense._untrusted import read_arrays

    path = context.cache.parent / "features" / f"{_cache.content(body, x)}.npz"

    def write(new):
        context.say(f"features of {len(x)} images")
        np.savez(new, features=body.predict(x, batch_size=32, verbose=0))

    return _cache.entry(path, write, lambda file: read_arrays(file)[0]["features"])


def linear(x, y):
    """Kernel and bias of a logistic regression on standardised features, by the strength that predicts best in five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    mean, spread = x.mean(0), x.std(0) + 1e-6
    standard = (x - mean) / spread

    def regression(strength):
        return LogisticRegression(C=strength, max_iter=500)

    loss = [-cross_val_score(regression(one), standard, y, cv=5, scoring="neg_log_loss").mean() for one in _STRENGTHS]
    fitted = regression(_STRENGTHS[int(np.argmin(loss))]).fit(standard, y)
    kernel = fitted.coef_.T / spread[:, None]
    return kernel.astype("float32"), (fitted.intercept_ - mean @ kernel).astype("float32")
