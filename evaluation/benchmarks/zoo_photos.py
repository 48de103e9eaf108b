"""The model of photos in the zoo: ten classes of ImageNet and a dustbin on the features of EfficientNet-Lite0.

Only the head and the defense are fitted here and shipped, in minutes; the body is that of `td.zoo.load("imagenet_lite0")`.
"""

import numpy as np

from evaluation.benchmarks.board.fitting import Fitting
from evaluation.benchmarks.photos import material
from evaluation.benchmarks.photos.candidates import PROMISE

DATASET = "imagenette_small"
BODY = "imagenet_lite0"
# What `python -m evaluation photos` chose: the kind of head, what it is shown, and the inverse strength of its penalty.
DEFENSE, SHOWN, SHOWN_IMAGES, STRENGTH = "dustbin", ("textures",), 500, 1e-3
NAME = f"imagenette_lite0.{DEFENSE}"
SIZES = {"linf": (1 / 255, 2 / 255), "l2": (0.25, 0.5)}
# What is not said here is as in `zoo_entries.Entry`.
ABOUT = {
    "dataset": DATASET,
    "summary": "photos of ten classes of ImageNet, 96x96, rejecting by a dustbin",
    "defense": "a dustbin that begins with ImageNet's thousand classes and was shown drawn textures",
    "recipe": BODY,
    "seen": 1_000,
    "fitted": 1_000,
    "calibrated": 300,
    "fitting": Fitting(**PROMISE),
    "suite": "quick-1",
    "body": BODY,
    "ood": lambda context: {name: parts["report"] for name, parts in material.tested(context.data_dir, 250, 500).items()},
}


def divided(context, entry):
    """The parts of the study that chose the model: the same photos fit and calibrate it, and those that chose it do neither."""
    parts = material.of_the_ten(context.data_dir, entry.fitted, entry.calibrated)
    return parts["fit"], parts["calibrate"], parts["report"]


def network(context, images, plain=False):
    """EfficientNet-Lite0 at the images' size, with logits of their classes and, unless `plain`, of a dustbin, fitted on them."""
    import keras

    from evaluation.benchmarks.photos import heads
    from evaluation.benchmarks.photos.features import features, thousand
    from tfdefense.zoo import imagenet
    from tfdefense.zoo.lite0 import FEATURES, efficientnet_lite0

    model = efficientnet_lite0(images.x.shape[1:])
    imagenet.fill(model, body=False)
    tap = model.get_layer(FEATURES).output
    body = keras.Model(model.input, tap)
    samples = features(context, body, images.x), images.y
    if plain:
        return heads.on(model, tap, heads.fitted("plain", *samples, strength=heads.best_strength(*samples)))
    shown = material.shown(context.data_dir, images, SHOWN_IMAGES, SHOWN)
    others = np.concatenate([features(context, body, x) for x in shown.values()])
    return heads.on(model, tap, heads.fitted("ImageNet dustbin", *samples, others, *thousand(model, images.classes), STRENGTH))
