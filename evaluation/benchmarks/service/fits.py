"""What `td.adapt` costs on few and on many samples: passes or CPU seconds, and memory beyond that of the loaded network."""

import resource
import sys
import time
from typing import NamedTuple

LAYERS = {"mnist": ("dense_1", "dense_2", "logits"), "digits": ("dense_1", "logits")}
DRAWN = 10_000


class Fit(NamedTuple):
    """What is fitted: its name, on the few samples or the many, and of so many at most."""

    system: str
    few: bool = False
    drawn: int | None = None


FITS = {
    "density, few": Fit("K-density", few=True),
    "density, many": Fit("K-density"),
    "SafetyNet, many": Fit("SafetyNet", drawn=DRAWN),
    "DNR, few": Fit("DNR", few=True),
    "DNR, many, refused": Fit("DNR"),
    "DNR, many": Fit("DNR", drawn=DRAWN // 2),
}


def measure(model_path, dataset, data_dir, name, count):
    """CPU seconds and GiB of a fit, or of its refusal; and the CPU seconds of a compiled pass forward of each sample."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfdefense as td
    from evaluation.benchmarks.speed.detector import seconds
    from tfdefense import data

    how, model = FITS[name], keras.models.load_model(model_path, compile=False)
    layers, extra = LAYERS[dataset], {}
    train = data.load(dataset, "train", data_dir=data_dir, limit=count)
    x, y = train.x, train.y
    drawn = None if how.drawn is None else min(how.drawn, count // 2)
    if how.system == "K-density":
        defense = td.DensityDefense()
    elif how.system == "DNR":
        defense = td.DeepNeuralRejection(layers, max_samples=drawn)
    else:
        # Half of the samples are clean; noise stands for an attack, whose cost is its own.
        x, y, defense = x[: count // 2], y[: count // 2], td.SafetyNet(layers[:1], max_samples=drawn)
        noisy = np.clip(x + 0.2 * np.sign(np.random.default_rng(0).normal(size=x.shape)), 0, 1).astype("float32")
        extra = {"adversarial": noisy, "sources": np.arange(len(x))}
    defended = defense.attach(model)
    forward, batch = tf.function(lambda x: model(x, training=False), autograph=False), tf.constant(x[:128])
    one = seconds(lambda: forward(batch).numpy(), 5) / len(batch)
    before, begun, refused = _peak(), time.process_time(), False
    try:
        td.adapt(defended, x, y, max_rejected=None, **extra)
    except ValueError as error:
        if how.drawn is not None or how.few or "at most" not in str(error):
            raise
        refused = True
    spent = time.process_time() - begun
    return {"seconds": spent, "GiB": max(_peak() - before, 0.0), "passes": spent / one / len(x), "refused": refused, "drawn": drawn}


def _peak():
    # macOS counts bytes, others KiB.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def add_row(context, how, count, found):
    about = {"system": how.system, "n": count, "drawn": found["drawn"] or "all", "few": how.few}
    about["result"] = "refused" if found["refused"] else "fitted"
    context.row("service.fits", "CPU seconds", found["seconds"], **about)
    context.row("service.fits", "GiB", found["GiB"], **about)
    context.row("service.fits", "time ratio", found["passes"], of="a pass forward", **about)
