"""Which head and which score make a photo classifier that says "none of these": ten classes of ImageNet on EfficientNet-Lite0.

Every candidate is fitted on the same features, calibrated to one promise, and chosen by images that are reported nowhere.
"""

from evaluation.benchmarks.photos import candidates, material

DATASETS = ("imagenette_small",)
# Photos that fit and calibrate, other images of each set that choose and are reported, and images of each kind that is shown.
FULL = {"fitted": 1_000, "calibrated": 300, "choose": 250, "report": 500, "shown": 500}
# Three joined detectors cannot be calibrated on fewer.
QUICK = {"fitted": 100, "calibrated": 150, "choose": 20, "report": 20, "shown": 20}


def measure(context, sizes):
    """A part: the study on features, which are computed once and kept."""
    return candidates.study(*gathered(context, sizes))


def gathered(context, sizes):
    """Features of all images, and ImageNet's logits as kernel, bias and the columns of the ten."""
    import keras

    from evaluation.benchmarks.photos.features import features as computed
    from evaluation.benchmarks.photos.features import thousand
    from tfdefense import zoo
    from tfdefense.zoo.lite0 import FEATURES, efficientnet_lite0

    ten = material.of_the_ten(context.data_dir, sizes["fitted"], sizes["calibrated"])
    if context.quick:
        ten |= {part: ten[part].divide(sizes[part])[0] for part in ("choose", "report")}
    model = efficientnet_lite0(ten["fit"].x.shape[1:])
    zoo.imagenet.fill(model, body=False)
    body = keras.Model(model.input, model.get_layer(FEATURES).output)

    def features(x):
        return computed(context, body, x)

    found = {part: (features(ten[part].x), ten[part].y) for part in ("fit", "calibrate")}
    others = material.tested(context.data_dir, sizes["choose"], sizes["report"])
    for part in ("choose", "report"):
        images = {"ten": ten[part].x, "small": material.made_small(ten[part].x)} | {name: x[part] for name, x in others.items()}
        found[part] = {name: features(x) for name, x in images.items()} | {"y": ten[part].y}
    shown = material.shown(context.data_dir, ten["fit"], sizes["shown"])
    found["shown"] = {name: features(x) for name, x in shown.items()}
    return found, *thousand(model, ten["fit"].classes)


def run(context):
    from tfdefense.metrics import share_interval
    from tfdefense.zoo import imagenet

    imagenet.weights_file()  # Whoever lacks the package is told at once.
    sizes = QUICK if context.quick else FULL
    context.settings.update(sizes, promise=str(candidates.PROMISE), without=", ".join(material.OVERLAP))
    found = context.part("candidates", measure, context, sizes)
    chosen = candidates.best(found["shares"])
    context.settings.update(chosen=chosen.name, strength=found["strength"])
    counts = {part: dict.fromkeys(material.TESTED, sizes[part]) for part in ("choose", "report")}
    ten = {"choose": sizes["choose"] if context.quick else 1_500 - sizes["fitted"] - sizes["calibrated"]}
    ten["report"] = sizes["report"] if context.quick else 500
    for one in candidates.CANDIDATES:
        about = {
            "system": " or ".join(one.scores),
            "base": one.head,
            "shown": ", ".join(one.shown) or "nothing",
            "strength": one.strength,
        }
        for part, shares in found["shares"][one.name].items():
            fields = about | {"part": part}

            def row(metric, name, n, shares=shares, fields=fields, **further):
                interval = share_interval(shares[name], n)
                context.row("photos", metric, shares[name], n=n, interval=interval, **fields, **further)

            row("accuracy", "right", ten[part])
            row("false-positive rate", "rejected", ten[part])
            row("false-positive rate", "small rejected", ten[part], perturbation=f"resized to {material.SMALL} pixels")
            for name in material.TESTED:
                seen = "its kind" if one.seen(name) else "no"
                row("rejection rate", name, counts[part][name], ood=name, **{"seen in training": seen})
