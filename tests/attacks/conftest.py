import numpy as np
import pytest


def linear(weights, bias=None, shape=(4, 4, 1)):
    """A linear classifier with these weights: closed forms hold on it."""
    import keras

    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(weights.shape[1], name="scores")])
    model.layers[-1].set_weights([weights, np.zeros(weights.shape[1]) if bias is None else bias])
    return model


@pytest.fixture(scope="session")
def line():
    """A linear model of 3 classes, 40 samples well inside the bounds, and their classes."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(16, 3)).astype("float32")
    weights -= weights.mean(0)
    model = linear(weights)
    x = rng.uniform(0.35, 0.65, (40, 4, 4, 1)).astype("float32")
    y = model(x).numpy().argmax(-1)
    assert len(set(y)) == 3
    return model, weights, x, y


def leads(weights, x, y):
    """For each sample and wrong class: lead of the true class, and the weights' difference."""
    scores = x.reshape(len(x), -1) @ weights
    for row, true in enumerate(y):
        for wrong in range(weights.shape[1]):
            if wrong != true:
                yield row, scores[row, true] - scores[row, wrong], weights[:, true] - weights[:, wrong]


def smallest(weights, x, y, dual):
    """The known smallest distance to another class on a linear model, `dual` being the order of the dual norm."""
    best = np.full(len(x), np.inf)
    for row, lead, difference in leads(weights, x, y):
        best[row] = min(best[row], lead / np.linalg.norm(difference, dual))
    return best
