"""Models that are trained once for all tests. A test that changes one (thresholds, weights) attaches or clones its own."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Models this small keep one core busy and no more: `make test` runs a process for each of two cores instead. Of inter-op threads
# two are left, for attacks that run beside a training step.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "2")

import numpy as np
import pytest

from tests import slow


def pytest_addoption(parser):
    parser.addoption("--record-slow", action="store_true", help="write the tests that are slow into tests/slow.txt")


def pytest_configure(config):
    if config.getoption("--record-slow"):
        config.pluginmanager.register(slow.Recorder())


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items):
    """Files with slow tests first: of two processes none is left alone with the longest at the end."""
    listed = slow.listed()
    for item in items:
        if item.nodeid in listed:
            item.add_marker("slow")
    first = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in first)


def pytest_collection_finish():
    """What is imported stays: the collector need not walk it over and over while graphs are built, a tenth of all CPU time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="session")
def digits():
    """The training digits, in [0, 1]: 1,400 of 8x8x1."""
    import tfdefense as td

    return td.data.load("digits")


@pytest.fixture(scope="session")
def held_out():
    """The other 397 digits: no model here was trained on them."""
    import tfdefense as td

    return td.data.load("digits", "test")


def small_cnn(classes, name):
    """Layers worth a tap are called conv, features and scores; the last one gives logits."""
    import keras

    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv")(inputs)
    x = keras.layers.MaxPooling2D(name="pool")(x)
    x = keras.layers.Conv2D(32, 3, padding="same", activation="relu", name="conv_1")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(32, activation="relu", name="features")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="scores")(x), name=name)


def trained(model, x, y, epochs):
    import keras

    keras.utils.set_random_seed(0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss=loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)  # or Keras traces the first step twice
    model.fit(x, y, batch_size=64, epochs=epochs, verbose=0)
    return model


@pytest.fixture(scope="session")
def classifier(digits, held_out):
    """A plain classifier of digits that gives logits."""
    import keras

    keras.utils.set_random_seed(0)
    model = trained(small_cnn(10, "digits_cnn"), digits.x, digits.y, epochs=10)
    accuracy = model.evaluate(held_out.x, held_out.y, verbose=0)[1]
    assert accuracy > 0.95, f"the classifier that other tests stand on is right in {accuracy:.1%} only"
    return model


@pytest.fixture(scope="session")
def dustbin(digits):
    """A plain classifier with 11 scores: the last is the dustbin's, trained on drawn letters."""
    import keras

    import tfdefense as td

    letters = td.data.load("letters8", limit=700)
    x, y = np.concatenate([digits.x, letters.x]), np.concatenate([digits.y, np.full(len(letters.x), 10)])
    keras.utils.set_random_seed(0)
    return trained(small_cnn(11, "digits_dustbin"), x, y, epochs=10)


@pytest.fixture(scope="session")
def defended(classifier, held_out):
    """`classifier` that rejects by confidence, calibrated to reject 5 % of the first 200 held-out digits."""
    import tfdefense as td

    model = td.ThresholdDefense().attach(classifier)
    td.calibrate(model, held_out.x[:200], max_rejected=0.05)
    return model


@pytest.fixture(scope="session")
def children():
    """Starts processes in which TensorFlow is loaded already; see `tests/forked.py`."""
    from tests.forked import Children

    made = Children()
    yield made
    made.close()


@pytest.fixture(scope="session")
def real_data():
    """`real_data(name, ...)` is `td.data.load(name, ...)`, and skips the test where the set is not on this machine."""
    import tfdefense as td

    def load(name, *args, **options):
        if not td.data.available(name):
            pytest.skip(f"{name} was not found: $TFDEFENSE_DATA is {os.environ.get('TFDEFENSE_DATA', 'not set')}")
        return td.data.load(name, *args, **options)

    return load
