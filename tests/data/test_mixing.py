import numpy as np
import pytest

from tfdefense.data import mix

# Every sample is its own number, so that what came through the pipeline can be told.
X = np.arange(100, dtype="float32")[:, None]
Y = np.arange(100) % 4
OUT = 1000 + np.arange(60, dtype="float32")[:, None]


def epoch(dataset):
    return [(x.numpy()[:, 0], y.numpy()) for x, y in dataset]


def test_every_sample_comes_once_with_its_label():
    x, y = (np.concatenate(parts) for parts in zip(*epoch(mix(X, Y, OUT, batch_size=16)), strict=True))
    own = y != 4
    assert sorted(x[own]) == X[:, 0].tolist()
    assert (y[own] == x[own] % 4).all()
    assert (x[~own] >= 1000).all() and len(set(x[~own])) == (~own).sum() == 60


@pytest.mark.parametrize("share, outside", [(0.25, 5), (0.5, 10), (0.8, 16)])
def test_share_is_kept_in_every_batch(share, outside):
    batches = epoch(mix(X, Y, OUT, share=share, batch_size=20))
    for _, y in batches[:-1]:
        assert len(y) == 20 and (y == 4).sum() == outside
    _, last = batches[-1]
    assert (last == 4).mean() == pytest.approx(share, abs=1 / len(last))


def test_out_samples_are_used_evenly_when_they_run_out():
    x = np.concatenate([x for x, _ in epoch(mix(X, Y, OUT[:7], share=0.5, batch_size=20))])
    _, counts = np.unique(x[x >= 1000], return_counts=True)
    assert len(counts) == 7 and counts.sum() == 100 and counts.max() - counts.min() <= 1


def test_seed_decides_the_order_and_epochs_differ():
    def order(dataset):
        return np.concatenate([x for x, _ in epoch(dataset)]).tolist()

    first = mix(X, Y, OUT, seed=3)
    epochs = [order(first), order(first)]
    assert epochs[0] != epochs[1]
    again = mix(X, Y, OUT, seed=3)
    assert [order(again), order(again)] == epochs
    assert order(mix(X, Y, OUT, seed=4)) != epochs[0]


def test_kinds_are_shuffled_within_a_batch():
    places = [np.flatnonzero(y == 4).mean() for _, y in epoch(mix(X, Y, OUT, share=0.5, batch_size=20))]
    assert 6 < np.mean(places) < 13


def test_several_out_sets_and_a_chosen_label():
    batches = epoch(mix(X, Y, [OUT, OUT + 1000], dustbin=9, batch_size=44))
    x, y = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert set(y) == {0, 1, 2, 3, 9}
    assert (x[y == 9] >= 2000).sum() == 60


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"out": OUT[:, :, None]}, "like those of `x`"),
        ({"out": OUT.astype("float64")}, "float64"),
        ({"out": OUT[:0]}, "Received: 0 of"),
        ({"y": Y[:-1]}, "`y` must hold 100 integers"),
        ({"y": Y * 1.0}, "integers"),
        ({"dustbin": 3}, "dustbin=3"),
        ({"share": 1.0}, "share=1.0"),
        ({"share": 0.01, "batch_size": 8}, "larger batch_size"),
    ],
)
def test_wrong_argument_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        mix(**({"x": X, "y": Y, "out": OUT} | wrong))


def test_classifier_learns_the_dustbin():
    import keras

    from tfdefense import data

    digits, letters = data.load("digits", limit=700), data.load("letters8", limit=350)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(11)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    model.fit(mix(digits.x, digits.y, letters.x, batch_size=50), epochs=15, shuffle=False, verbose=0)
    new = data.load("digits", "test")
    assert (model.predict(new.x, verbose=0).argmax(-1) == new.y).mean() > 0.9
    out = data.load("letters8", "test").x
    assert (model.predict(out, verbose=0).argmax(-1) == 10).mean() > 0.8
