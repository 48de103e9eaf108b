"""Memory stays the same however many samples there are. TFDEFENSE_SAMPLES=1000000 asks for so many."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td

pytestmark = pytest.mark.slow

SAMPLES = int(os.environ.get("TFDEFENSE_SAMPLES", 20_000))
SHAPE = (32, 32, 3)
MEGABYTES = 40  # that may come on top; the samples as floats have 245, or 12,000


def own():
    """Megabytes of memory of this process alone, without pages of files."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


@pytest.fixture(scope="module")
def small():
    layers = [keras.layers.AveragePooling2D(16), keras.layers.Flatten(), keras.layers.Dense(3)]
    return td.ThresholdDefense(threshold=0.0).attach(keras.Sequential([keras.Input(SHAPE), *layers]))


def memmap(folder):
    """A file with holes: it takes no room on the disk."""
    path = folder / "x.npy"
    x = np.lib.format.open_memmap(path, mode="w+", dtype="uint8", shape=(SAMPLES, *SHAPE))
    x[-1] = 1
    del x
    return np.load(path, mmap_mode="r")


SOURCES = {
    "memmap": memmap,
    "tf.data": lambda _: tf.data.Dataset.range(SAMPLES).map(lambda i: tf.fill(SHAPE, tf.cast(i % 2, "float32"))).batch(256),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's count of memory")
@pytest.mark.parametrize("source", SOURCES)
def test_memory_does_not_grow_with_the_samples(source, small, tmp_path):
    data = SOURCES[source](tmp_path)
    td.predict(small, np.zeros((2000, *SHAPE), "float32"))  # compiled
    before, most, count = own(), 0.0, 0

    def watched():
        nonlocal most, count
        for part in td.prediction.stream(small, data):
            most, count = max(most, own() - before), count + len(part)
            yield part

    td.prediction.write(tmp_path / "labels.csv", watched())
    assert count == SAMPLES and sum(1 for _ in open(tmp_path / "labels.csv")) == SAMPLES + 1
    assert most < MEGABYTES, f"{most:.0f} MB more"
    print(f"{SAMPLES:,} samples of {source}: {most:.0f} MB more at most")
