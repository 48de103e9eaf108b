"""Data sets of batches in place of arrays."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfdefense as td
from tests.conftest import small_cnn

X = np.random.default_rng(0).random((50, 8, 8, 1), "float32")
Y = np.arange(50) % 3


class Pairs(keras.utils.PyDataset):
    """Samples and classes, 16 at once."""

    @property
    def num_batches(self):
        return 4

    def __getitem__(self, index):
        part = slice(16 * index, 16 * (index + 1))
        return X[part], Y[part]


class DataLoader:
    """As PyTorch's: batches as lists, which `len` counts."""

    def __len__(self):
        return 4

    def __iter__(self):
        return ([X[start : start + 16], Y[start : start + 16]] for start in range(0, 50, 16))


def slices(*arrays):
    return tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])


PAIRS = {"tf.data": lambda: slices(X, Y).batch(16), "PyDataset": Pairs, "DataLoader": DataLoader}


@pytest.fixture(scope="module")
def base():
    keras.utils.set_random_seed(0)
    return small_cnn(3, "base")


@pytest.fixture(scope="module")
def expected(base):
    defended = td.NeuralRejection("features").attach(base)
    return td.adapt(defended, X, Y, calibration=X, max_rejected=0.1)


@pytest.mark.parametrize("kind", PAIRS)
def test_data_sets_give_what_arrays_give(base, expected, kind):
    defended = td.NeuralRejection("features").attach(base)
    td.adapt(defended, PAIRS[kind](), calibration=PAIRS[kind](), max_rejected=0.1)
    np.testing.assert_array_equal(defended(X)["suspicion"], expected(X)["suspicion"])
    assert td.calibrate(defended, PAIRS[kind](), max_rejected=0.2) == td.calibrate(defended, X, max_rejected=0.2)
    outcomes = td.evaluate(defended, PAIRS[kind]())
    np.testing.assert_array_equal(outcomes.label, td.evaluate(defended, X, Y).label)
    np.testing.assert_array_equal(outcomes.y, Y)
    np.testing.assert_array_equal(td.view.decide(defended, PAIRS[kind]()).label, outcomes.label)


def test_samples_alone_take_their_labels_beside_them(base, expected):
    defended = td.NeuralRejection("features").attach(base)
    td.adapt(defended, slices(X).batch(16), Y, calibration=slices(X).batch(16), max_rejected=0.1)
    np.testing.assert_array_equal(defended(X)["suspicion"], expected(X)["suspicion"])


def test_callbacks_take_data_sets(base):
    defended = td.ThresholdDefense().attach(base)
    defended.compile("adam", loss={"scores": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    data = PAIRS["tf.data"]()
    callbacks = [
        td.callbacks.AdaptDefense(data),
        td.callbacks.CalibrateRejection(data, max_rejected=0.1),
        td.callbacks.RobustAccuracy(td.attacks.FGSM(0.1), data.take(1)),
    ]
    logs = defended.fit(X, Y, epochs=0, verbose=0, callbacks=callbacks).history
    # The fifth largest of 50 scores is the threshold: four are above.
    assert logs["rejection"] == [0.08] and set(logs) == {"rejection", "robust_accuracy", "robust_rejection"}


@pytest.mark.parametrize(
    ("data", "y", "words"),
    [
        (lambda: slices(X, Y).batch(16), Y, "Expected labels once. Received them in the data set and as `y`: leave `y` out"),
        (lambda: slices(X).batch(16), None, "Expected labels. Received samples alone: pass `y`"),
        (lambda: X, None, "Expected labels. Received samples alone: pass `y`"),
        (lambda: slices(X, Y).batch(16).repeat(), None, "Expected a data set that ends. Received an infinite _RepeatDataset"),
        (lambda: slices(X, Y), None, r"shapes \(8, 8, 1\), \(\). Batch single samples first: `dataset.batch\(256\)`"),
        (lambda: slices(X, Y, Y).batch(16), None, "pairs .samples, labels.. Received a _BatchDataset that gives 3 parts"),
        (lambda: slices({"image": X, "label": Y}).batch(16), None, "that gives a dict of 'image', 'label'. Map it to pairs"),
        (lambda: slices(X, Y).batch(16).take(0), None, "Expected at least one batch. Received an empty _TakeDataset"),
        (lambda: type("MapDataset", (), {})(), None, "Received a MapDataset, which can't be iterated over: pass arrays"),
    ],
)
def test_what_can_not_be_collected_is_one_sentence(base, expected, data, y, words):
    for call in (td.adapt, td.evaluate):
        with pytest.raises(ValueError, match=words):
            call(expected, data(), y)


def test_endless_py_dataset_is_refused(expected):
    class Endless(Pairs):
        num_batches = None

    with pytest.raises(ValueError, match="Received an infinite Endless"):
        td.calibrate(expected, Endless())


def test_single_samples_without_labels_do_not_fit(expected):
    with pytest.raises(ValueError, match=r"Expected samples of shape \(None, 8, 8, 1\). Received"):
        td.calibrate(expected, slices(X))


def test_attacks_say_how_to_collect(base):
    with pytest.raises(ValueError, match="Expected an array of samples. Received a _BatchDataset. Collect what it gives"):
        td.attacks.FGSM(0.1)(base, slices(X).batch(16), Y)
