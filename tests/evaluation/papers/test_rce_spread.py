"""What numbers over samples and networks are worth, and theorem 2 of the paper on a network that was trained."""

import keras
import numpy as np
import pytest

import tfdefense as td
from evaluation.papers.rce import spread


def test_auc_of_drawn_pairs_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    clean, attacked = rng.normal(size=30).round(1), rng.normal(0.7, size=30).round(1)
    attacked[0] = np.inf
    drawn = rng.multinomial(30, np.full(30, 1 / 30), 3).astype(float)
    for weights, found in zip(drawn, spread.auc(clean, attacked)(drawn), strict=True):
        rows = np.repeat(np.arange(30), weights.astype(int))
        scores = np.nan_to_num(np.concatenate([clean[rows], attacked[rows]]), posinf=99)
        assert found == pytest.approx(roc_auc_score(np.repeat([0, 1], len(rows)), scores))


def test_interval_of_a_mean_is_the_known_one_and_the_deviation_that_of_the_networks():
    values = np.random.default_rng(0).normal(size=400)
    found = spread.over([(range(400), values), (range(400), values + 1), (range(400), values + 2)], 400, spread.mean)
    assert found["value"] == pytest.approx(values.mean() + 1) and found["n"] == 1200 and found["deviation"] == pytest.approx(1)
    # The samples are the same for all three: more networks make it no narrower.
    half = 1.96 * values.std() / 20
    assert found["interval"] == pytest.approx((found["value"] - half, found["value"] + half), abs=0.015)
    assert "deviation" not in spread.over([(range(400), values)], 400, spread.mean)


def test_networks_with_few_samples_or_none():
    assert spread.over([([], [], []), ([], [], [])], 50, spread.auc) == {"value": None, "n": 0}
    found = spread.over([([], [], []), ([3, 7], [0.0, 1.0], [2.0, 3.0])], 50, spread.auc)
    # Most draws lack one of the two, many both.
    assert (found["value"], found["n"], found["interval"]) == (1.0, 2, (1.0, 1.0)) and "deviation" not in found
    half = spread.over([(range(4), [2.0, 4.0, 6.0, 8.0], [1.0, 2.0, 3.0, 4.0])], 4, spread.ratio)
    assert half["value"] == 2 and half["interval"] == pytest.approx((2, 2))


@pytest.fixture(scope="module")
def reverse(digits):
    """A network that reverse cross-entropy has trained: its scores are -Z."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(10)])
    model = keras.Model(model.inputs[0], td.layers.ReverseLogits()(model.outputs[0]))
    model.compile(keras.optimizers.Adam(5e-3), td.losses.ReverseCrossEntropy(), jit_compile=False)
    model.fit(digits.x, digits.y, epochs=40, batch_size=128, verbose=0)
    return model


def test_bounds_of_theorem_2_hold_on_a_trained_network(reverse, digits):
    scores, classes = np.asarray(reverse(digits.x), "float64"), 10
    of_z, of_minus_z = (np.exp(s) / np.exp(s).sum(1, keepdims=True) for s in (-scores, scores))
    true = np.eye(classes)[digits.y]
    error = np.abs(of_z - (1 - true) / (classes - 1)).max(1)
    # The theorem is for errors far below 1 / classes: a tenth of that, and with the training set these are many.
    small = error <= 0.1 / classes
    assert small.sum() > 100
    off = np.abs(of_minus_z - true).max(1)
    others = np.where(true == 1, np.nan, of_minus_z)
    apart = np.nanmax(others, 1) - np.nanmin(others, 1)
    assert (off <= error * (classes - 1) ** 2)[small].all()
    assert (apart <= 2 * error**2 * (classes - 1) ** 2)[small].all()
    # The bounds say something: there are samples that come near, and the first does not hold for the reverse classifier itself.
    assert (apart / (2 * error**2 * (classes - 1) ** 2))[small].max() > 0.1
    assert not (np.abs(of_z - true).max(1) <= error * (classes - 1) ** 2)[small].any()
