import numpy as np
import pytest

from tfdefense import data
from tfdefense.data.interpolation import interpolate

RNG = np.random.default_rng(0)
X = RNG.random((80, 4, 4, 1), dtype="float32")
Y = RNG.integers(0, 4, size=80)
FEATURES = RNG.normal(size=(80, 7)).astype("float32")


def brute_force(features, y, source):
    distance = np.linalg.norm(features - features[source], axis=1)
    distance[y == y[source]] = np.inf
    return distance.argmin()


def test_neighbour_is_the_nearest_of_another_class():
    made = interpolate(X, Y, FEATURES)
    assert sorted(made.sources) == list(range(80))
    assert [brute_force(FEATURES, Y, source) for source in made.sources] == made.neighbours.tolist()
    assert (Y[made.sources] != Y[made.neighbours]).all()


@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_sample_is_the_blend_of_its_pair(alpha):
    x, sources, neighbours = interpolate(X, Y, FEATURES, alpha=alpha)
    np.testing.assert_allclose(x, alpha * X[sources] + (1 - alpha) * X[neighbours], atol=1e-6)
    assert x.dtype == np.float32


def test_bytes_stay_bytes():
    x = np.array([[[[200]]], [[[255]]]], dtype="uint8")
    made = interpolate(x, np.array([0, 1]), np.array([[0.0], [1.0]]))
    assert made.x.dtype == np.uint8 and made.x.ravel().tolist() == [228, 228]


def test_sources_are_limited_balanced_and_seeded():
    made = interpolate(X, Y, FEATURES, per_class=5, seed=1)
    assert np.bincount(Y[made.sources]).tolist() == [5] * 4
    assert np.bincount(Y[interpolate(X, Y, FEATURES, per_class=5, limit=8).sources]).tolist() == [2] * 4
    np.testing.assert_array_equal(interpolate(X, Y, FEATURES, per_class=5, seed=1).x, made.x)
    assert set(interpolate(X, Y, FEATURES, per_class=5, seed=2).sources) != set(made.sources)


def test_a_function_may_give_the_features():
    made = interpolate(X, Y, lambda batch: batch.mean(axis=(1, 2)), batch_size=7)
    np.testing.assert_array_equal(made.neighbours, interpolate(X, Y, X.mean(axis=(1, 2))).neighbours)


@pytest.mark.parametrize("ending", ["softmax in the Dense layer", "softmax layer", "used in another model"])
def test_classifier_gives_the_input_of_its_last_dense_layer(ending):
    import keras

    softmax = ending == "softmax in the Dense layer"
    layers = [keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(6, "tanh"), keras.layers.Dropout(0.5)]
    model = keras.Sequential([*layers, keras.layers.Dense(4, "softmax" if softmax else None)])
    if ending == "softmax layer":
        model.add(keras.layers.Softmax())
    if ending == "used in another model":
        other = keras.Input((4, 4, 1))
        model.layers[-1](keras.layers.Dense(6)(keras.layers.Flatten()(other)))
    weights, bias = model.layers[1].get_weights()
    expected = np.tanh(X.reshape(80, -1) @ weights + bias)
    np.testing.assert_array_equal(interpolate(X, Y, model).neighbours, interpolate(X, Y, expected).neighbours)


def test_model_without_a_last_dense_layer_is_refused():
    import keras

    inputs = keras.Input((4, 4, 1))
    with pytest.raises(ValueError, match="made by a Dense layer.*as an array"):
        interpolate(X, Y, keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs)))
    # Behind a submodel the Dense layer before it would be the wrong one.
    head = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4)])
    hidden = keras.layers.Dense(6)(keras.layers.Flatten()(inputs))
    with pytest.raises(ValueError, match="made by a Dense layer.*as an array"):
        interpolate(X, Y, keras.Model(inputs, head(hidden)))
    two = keras.Model(inputs, {"a": keras.layers.Dense(2)(inputs), "b": keras.layers.Dense(2)(inputs)})
    with pytest.raises(ValueError, match="with one output"):
        interpolate(X, Y, two)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"alpha": 1.0}, r"alpha=1.0"),
        ({"per_class": 0}, "per_class=0"),
        ({"features": FEATURES[:-1]}, "`features` must have a row"),
        ({"y": np.zeros(80, int)}, "two classes"),
        ({"y": Y[:-1]}, "one class for each sample"),
    ],
)
def test_wrong_argument_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        interpolate(**({"x": X, "y": Y, "features": FEATURES} | wrong))


def test_blended_digits_are_no_digits():
    images = data.load("digits", limit=500)
    made = data.interpolate(images.x, images.y, images.x, per_class=20)
    assert made.x.shape == (200, 8, 8, 1) and 0 <= made.x.min() and made.x.max() <= 1
    known = {image.tobytes() for image in images.x}
    assert not any(image.tobytes() in known for image in made.x)


def test_neighbours_of_many_samples_need_no_matrix_of_all_distances():
    import tracemalloc

    count = 6000
    y, features = RNG.integers(0, 2, size=count), RNG.normal(size=(count, 20)).astype("float32")
    x = np.zeros((count, 2), "float32")
    tracemalloc.start()
    made = interpolate(x, y, features)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(made.x) == count and peak < count**2 / 10, f"{peak / 1e6:.0f} MB at once"
