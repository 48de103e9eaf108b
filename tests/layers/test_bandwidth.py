import keras
import numpy as np
import pytest

from tfdefense.layers import KernelDensity
from tfdefense.layers.scores import bandwidth
from tfdefense.layers.scores.bandwidth import likeliest_sigma


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 150)
    return (rng.normal(size=(150, 4)) * [1, 0.3, 2, 1] + 5 * labels[:, None]).astype("float32"), labels


def test_bandwidth_is_what_scikit_learn_finds_by_leaving_one_out(points):
    from sklearn.model_selection import LeaveOneOut
    from sklearn.neighbors import KernelDensity as Sklearn

    features, labels = points
    found = likeliest_sigma(features, labels)

    def likelihood(sigma):
        total = 0.0
        for label in np.unique(labels):
            own = features[labels == label]
            for rest, left_out in LeaveOneOut().split(own):
                total += Sklearn(bandwidth=sigma / 2**0.5).fit(own[rest]).score(own[left_out])
        return total

    at = likelihood(found)
    assert at > likelihood(found * 2**0.25) and at > likelihood(found / 2**0.25)


@pytest.mark.parametrize("scale", [1e-4, 100.0])
def test_bandwidth_goes_with_the_scale_of_the_features(points, scale):
    features, labels = points
    assert likeliest_sigma(features * scale, labels) == pytest.approx(scale * likeliest_sigma(features, labels), rel=1e-3)


def test_features_that_never_vary_and_samples_that_occur_twice_do_no_harm(points):
    features, labels = points
    dead = np.concatenate([features, np.full((len(features), 60), 3.0, "float32")], axis=1)
    assert likeliest_sigma(dead, labels) == pytest.approx(likeliest_sigma(features, labels))
    twice = [np.concatenate([part, part[:30]]) for part in (features, labels)]
    assert likeliest_sigma(*twice) > likeliest_sigma(features, labels) / 3


def test_many_points_are_drawn_from_by_the_seed(monkeypatch):
    rng = np.random.default_rng(1)
    features, labels = rng.standard_t(3, size=(900, 2)), np.repeat([0, 1, 2], [700, 100, 100])
    monkeypatch.setattr(bandwidth, "POINTS", 60)
    assert np.bincount(labels[bandwidth.equal_shares(labels, 60, 0)]).tolist() == [20, 20, 20]
    found = [likeliest_sigma(features, labels, seed) for seed in (0, 0, 1, 2, 3, 4)]
    assert found[0] == found[1] and len(set(found)) > 1


def test_layer_keeps_what_was_chosen_in_its_files(points, tmp_path):
    import tensorflow as tf

    features, labels = points
    scores = np.eye(3, dtype="float32")[labels]
    inputs = [keras.Input((4,)), keras.Input((3,))]
    model = keras.Model(inputs, KernelDensity(max_points=200)(*inputs))
    layer = model.layers[-1]
    layer.adapt(features, labels)
    assert float(layer.current_sigma) == pytest.approx(likeliest_sigma(features, labels))
    same = KernelDensity(sigma=float(layer.current_sigma), max_points=200)
    same.adapt(features, labels)
    want = same(features + 1, scores).numpy()
    np.testing.assert_allclose(model([features + 1, scores]), want, rtol=1e-6)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].sigma == "auto" and float(loaded.layers[-1].current_sigma) == float(layer.current_sigma)
    np.testing.assert_array_equal(loaded([features + 1, scores]), model([features + 1, scores]))
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve([features + 1, scores]), want, rtol=1e-5)


def test_a_number_needs_no_weight_so_that_earlier_files_fit(points):
    names = {}
    for sigma in ("auto", 1.0):
        layer = KernelDensity(sigma=sigma, max_points=200)
        layer.adapt(*points)
        names[sigma] = [weight.name for weight in layer.weights]
    assert names[1.0] == ["adapted", "points", "owners", "log_shares", "center", "used"]
    assert names["auto"] == [*names[1.0], "sigma"]


@pytest.mark.parametrize("features", [np.ones((6, 2)), np.repeat([[0.0], [1.0]], 3, axis=0)], ids=["all alike", "alike in a class"])
def test_without_any_distance_it_says_what_to_do(features):
    with pytest.raises(ValueError, match="can't choose its bandwidth: no two training samples .* or give `sigma=`"):
        KernelDensity().adapt(features, [0, 0, 0, 1, 1, 1])
