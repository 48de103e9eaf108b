"""What post-hoc scores cost on a network of photos: a decision beside the plain network's, and `td.compare` of ten of them.

A decision is a ratio of CPU times, all threads included, in turns within one process, on batches of 32 images. The comparison runs
in a process of its own, whose peak memory is that of the whole. Its minutes are those of this machine and mean something only where
nothing else ran on it.
"""

from evaluation.benchmarks.speed.alone import alone

DATASETS = ("imagenette_small",)
BATCH, TURNS, REPEATS = 32, 5, 3
PLAIN = "plain network"
TEN = ("confidence", "max-logit", "energy", "entropy", "gen", "react", "fdbd", "vim", "mahalanobis", "knn")
# Under attack the comparison searches hundreds of passes for each image and candidate.
ATTACKED = 8


def run(context):
    from tfdefense.zoo import imagenet

    imagenet.weights_file()  # Whoever lacks the package is told at once.
    place = str(context.data_dir) if context.data_dir else None
    count = context.samples_or(1_000, 150)
    turns, repeats = (1, 1) if context.quick else (TURNS, REPEATS)
    found = context.part("predict", alone, predict, place, count, turns, repeats)
    for name, seconds in found.items():
        if name != PLAIN:
            context.row("speed.scores", "time ratio", seconds / found[PLAIN], system=name, batch=BATCH, stored=count)
    plans = {"no attack": None} if context.quick else {"no attack": None, f"quick-1 on {ATTACKED} images": "quick-1"}
    for plan, attack in plans.items():
        found = context.part(f"td.compare, {plan}", alone, compare, place, count, attack)
        about = {"system": "td.compare", "candidates": len(TEN), "plan": plan, "n": found["samples"]}
        context.row("speed.compare", "minutes", found["seconds"] / 60, **about)
        context.row("speed.compare", "GiB", found["peak"], **about)


def network(train):
    """EfficientNet-Lite0 with a plain head of ten classes, fitted on photos."""
    import keras

    from evaluation.benchmarks.photos import heads
    from tfdefense.zoo import imagenet
    from tfdefense.zoo.lite0 import FEATURES, efficientnet_lite0

    model = efficientnet_lite0(train.x.shape[1:])
    imagenet.fill(model, body=False)
    tap = model.get_layer(FEATURES).output
    features = keras.Model(model.input, tap).predict(train.x, batch_size=BATCH, verbose=0)
    return heads.on(model, tap, heads.fitted("plain", features, train.y))


def predict(data_dir, count, turns, repeats):
    """CPU seconds of a compiled decision on one batch, by the plain network and with each score: the least over some turns."""
    import keras
    import tensorflow as tf

    import tfdefense as td
    from evaluation.benchmarks import zoo_photos
    from evaluation.benchmarks.speed.detector import seconds

    train = td.data.load(DATASETS[0], "train", data_dir=data_dir, limit=count)
    model, x = network(train), tf.constant(train.x[:BATCH])
    score = td.ThresholdDefense
    made = {name: score(name) for name in ("energy", "vim", "knn", "mahalanobis")}
    made["energy or vim"] = td.AnyOf(score("energy"), score("vim"))
    # What is calibrated does not change the cost.
    defended = {name: defense.attach(model) for name, defense in made.items()}
    for one in defended.values():
        if any(isinstance(layer, td.layers.AdaptableLayer) for layer in one.layers):
            td.adapt(one, train.x, train.y, calibration=train.x)
        else:
            td.calibrate(one, train.x)
    runs = {}
    for name, one in {PLAIN: model, zoo_photos.NAME: td.zoo.load(zoo_photos.NAME), **defended}.items():
        decide = tf.function(lambda x, one=one: one(x, training=False))
        runs[name] = lambda decide=decide: keras.tree.map_structure(lambda tensor: tensor.numpy(), decide(x))
    times = {name: [] for name in runs}
    for _ in range(turns):
        for name, one in runs.items():
            times[name].append(seconds(one, repeats))
    return {name: min(each) for name, each in times.items()}


def compare(data_dir, count, attack):
    """Seconds of `td.compare` with ten scores, and the peak memory of its process in GiB."""
    import resource
    import sys
    import time

    import tfdefense as td
    from evaluation.benchmarks.photos import material

    train = td.data.load(DATASETS[0], "train", data_dir=data_dir, limit=count)
    test = td.data.load(DATASETS[0], "test", data_dir=data_dir, limit=max(count // 2, 120))
    model = network(train)
    ood = {name: parts["report"] for name, parts in material.tested(data_dir, 1, count // 4).items()}
    begun = time.perf_counter()
    td.compare(model, list(TEN), test, ood=ood, train=train, attack=attack, attacked=ATTACKED)
    seconds = time.perf_counter() - begun
    # macOS counts bytes, others KiB.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return {"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, "samples": len(test)}
