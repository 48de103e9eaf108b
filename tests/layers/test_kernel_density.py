import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tfdefense.layers import KernelDensity
from tfdefense.layers.scores import kernel_density as module

CLASSES, WIDTH = 5, 6
pytestmark = pytest.mark.filterwarnings("ignore:.* training points, an equal share:UserWarning")


@pytest.fixture(scope="module")
def data():
    """Points of classes 0 to 3: class 4 has none. Far from the origin, where float32 squares lose digits."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES - 1, 700)
    features = (rng.normal(size=(700, WIDTH)) + labels[:, None] + 50).astype("float32")
    probes = (rng.normal(size=(60, WIDTH)) * 2 + 52).astype("float32")
    return features, labels, probes, rng.normal(size=(60, CLASSES)).astype("float32")


def minus_log_density(features, labels, probe, predicted, sigma):
    points = features[labels == predicted].astype("float64")
    if len(points) == 0:
        return np.inf
    terms = -((points - probe.astype("float64")) ** 2).sum(-1) / sigma**2
    return -(np.log(np.exp(terms - terms.max()).sum()) + terms.max() - np.log(len(points)))


def expected(data, sigma):
    features, labels, probes, scores = data
    return np.array([minus_log_density(features, labels, p, s.argmax(), sigma) for p, s in zip(probes, scores, strict=True)])


def fitted(data, **options):
    layer = KernelDensity(**options)
    layer.adapt(data[0], data[1])
    return layer


def model_of(layer):
    features, scores = keras.Input((WIDTH,), name="features"), keras.Input((CLASSES,), name="scores")
    return keras.Model([features, scores], layer(features, scores))


@pytest.mark.parametrize("sigma", [0.1, 1.0, 8.0])
@pytest.mark.parametrize("room, block", [(700, 2048), (5000, 2048), (1000, 64)], ids=["full", "room left", "many blocks"])
def test_density_is_the_papers(data, monkeypatch, sigma, room, block):
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "STEPS", 200)
    found = fitted(data, sigma=sigma, max_points=room)(data[2], data[3]).numpy()
    want = expected(data, sigma)
    assert np.isinf(want).any() and np.isfinite(want).any()
    np.testing.assert_allclose(found, want, rtol=2e-4, atol=2e-4)


def test_density_equals_scikit_learns(data):
    from sklearn.neighbors import KernelDensity as Sklearn

    features, labels, probes, scores = data
    bandwidth = 0.7
    found = fitted(data, sigma=bandwidth * 2**0.5)(probes, scores).numpy()
    for label in range(CLASSES - 1):
        rows = scores.argmax(-1) == label
        log_density = Sklearn(kernel="gaussian", bandwidth=bandwidth).fit(features[labels == label]).score_samples(probes[rows])
        # scikit-learn's integrates to 1, the paper's kernel has height 1.
        unit = WIDTH / 2 * np.log(2 * np.pi * bandwidth**2)
        np.testing.assert_allclose(-found[rows], log_density + unit, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", [2048, 64])
def test_gradient_is_that_of_the_density(data, monkeypatch, block):
    import tensorflow as tf

    monkeypatch.setattr(module, "BLOCK", block)
    features, labels, probes, scores = data
    layer, x = fitted(data, sigma=1.5), tf.constant(probes)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = layer(x, scores)
    gradient = tape.gradient(value, x).numpy()
    assert np.isfinite(gradient).all()
    step = 1e-4
    for i in range(20):
        predicted = scores[i].argmax()
        if predicted == CLASSES - 1:
            assert not gradient[i].any(), "no class to go to: no slope, and above all no NaN"
            continue
        ends = [probes[i].astype("float64") + s * step * np.eye(WIDTH) for s in (1, -1)]
        up, down = ([minus_log_density(features, labels, p, predicted, 1.5) for p in end] for end in ends)
        np.testing.assert_allclose(gradient[i], (np.array(up) - down) / (2 * step), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rows", [0, 1, 7, 60])
def test_each_batch_gets_what_each_of_its_samples_gets_alone(data, rows):
    """Also of classes that are not there, and in an order that is not that of the classes."""
    features, labels, probes, scores = data
    layer = fitted(data, sigma=1.5)
    found = layer(probes[:rows], scores[:rows]).numpy()
    np.testing.assert_allclose(found, expected(data, 1.5)[:rows], rtol=2e-4, atol=2e-4)


def test_points_of_earlier_versions_stand_in_any_order_and_say_the_same(data, tmp_path):
    features, labels, probes, scores = data
    model = model_of(KernelDensity(sigma=0.8, max_points=900))
    layer = model.layers[-1]
    layer.adapt(features, labels)
    want, stored = model([probes, scores]).numpy(), [weight.numpy() for weight in (layer.points, layer.owners, layer.log_shares)]
    assert (np.diff(layer.owners.numpy()[layer.owners.numpy() > 0]) >= 0).all()
    # They wrote the points in the order of the training set.
    order = np.concatenate([np.random.default_rng(0).permutation(700), np.arange(700, 900)])
    for weight, values in zip((layer.points, layer.owners, layer.log_shares), stored, strict=True):
        weight.assign(values[:, order])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(loaded([probes, scores]).numpy(), want, rtol=1e-5)
    np.testing.assert_array_equal(loaded.layers[-1].owners, stored[1])


def test_class_without_points_is_infinitely_doubtful_and_others_are_untouched(data):
    scores = np.eye(CLASSES, dtype="float32")[[0, 4, 1]]
    found = fitted(data)(data[2][:3], scores).numpy()
    assert np.isfinite(found).tolist() == [True, False, True] and found[1] == np.inf


def test_bad_features_touch_no_other_sample(data):
    probes = data[2][:3].copy()
    probes[1] = np.nan
    scores = np.eye(CLASSES, dtype="float32")[[0, 0, 1]]
    layer = fitted(data)
    found = layer(probes, scores).numpy()
    assert np.isnan(found).tolist() == [False, True, False]
    np.testing.assert_allclose(found[[0, 2]], layer(data[2][[0, 2]], scores[[0, 2]]).numpy(), rtol=1e-5)


def test_nothing_is_known_before_adapt(data):
    layer = KernelDensity()
    assert np.isposinf(layer(data[2], data[3]).numpy()).all() and not layer.adapted


def test_density_far_from_everything_still_has_a_slope(data):
    import tensorflow as tf

    layer, x = fitted(data, sigma=0.5), tf.constant(data[2][:4] + 1000)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = layer(x, np.eye(CLASSES, dtype="float32")[[0, 1, 2, 3]])
    assert np.isfinite(value).all() and (tf.norm(tape.gradient(value, x), axis=-1).numpy() > 1).all()


@pytest.mark.parametrize("block", [2048, 64])
def test_saved_files_give_the_same_density(data, tmp_path, monkeypatch, block):
    import tensorflow as tf

    monkeypatch.setattr(module, "BLOCK", block)
    features, labels, probes, scores = data
    model = model_of(KernelDensity(sigma=0.8, max_points=900))
    model.layers[-1].adapt(features, labels)
    want = model([probes, scores]).numpy()
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.layers[-1].adapted
    np.testing.assert_array_equal(loaded([probes, scores]), want)
    model.export(tmp_path / "saved", verbose=False)
    served = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(served.serve([probes, scores]), want, rtol=1e-5)
    slopes = []
    for function in (model, served.serve):
        x = tf.constant(probes)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function([x, tf.constant(scores)])
        slopes.append(tape.gradient(value, x).numpy())
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-4, atol=1e-5)


def test_function_compiled_before_adapt_sees_the_points(data):
    model = model_of(KernelDensity(max_points=900))
    first, layer = model.predict([data[2], data[3]], verbose=0), model.layers[-1]
    layer.adapt(data[0], data[1])
    assert np.isinf(first).all()
    want = expected(data, float(layer.current_sigma))
    np.testing.assert_allclose(model.predict([data[2], data[3]], verbose=0), want, rtol=1e-3, atol=1e-3)


def test_adapting_again_forgets_the_first_points(data):
    layer = fitted(data)
    few = np.concatenate([np.flatnonzero(data[1] == label)[:5] for label in range(CLASSES - 1)])
    layer.adapt(data[0][few], data[1][few])
    small = (data[0][few], data[1][few], data[2], data[3])
    np.testing.assert_allclose(layer(data[2], data[3]), expected(small, float(layer.current_sigma)), rtol=1e-3, atol=1e-3)


def test_capped_density_tells_its_error(data):
    features, labels, probes, scores = data
    predicted = scores.argmax(-1) % (CLASSES - 1)
    exact, capped = fitted(data, max_points=700), fitted(data, max_points=80)
    assert int((capped.owners.numpy() > 0).sum()) == 80
    assert np.bincount(capped.owners.numpy().ravel())[1:].tolist() == [20, 20, 20, 20]
    np.testing.assert_allclose(exact.capping_error(features, labels, probes, predicted), 0, atol=1e-5)
    one_hot = np.eye(CLASSES, dtype="float32")[predicted]
    difference = exact(probes, one_hot).numpy() - capped(probes, one_hot).numpy()
    error = capped.capping_error(features, labels, probes, predicted)
    np.testing.assert_allclose(error, difference, atol=1e-3)
    assert np.abs(error).max() > 0.1


def test_room_that_small_classes_leave_goes_to_the_others():
    labels = np.array([0] * 3 + [1] * 50 + [2] * 50)
    layer = KernelDensity(max_points=43)
    layer.adapt(np.random.default_rng(0).normal(size=(103, 2)), labels)
    assert np.bincount(layer.owners.numpy().ravel(), minlength=4)[1:].tolist() == [3, 20, 20]


def test_another_seed_keeps_other_points(data):
    def stored(seed):
        return fitted(data, max_points=80, seed=seed).points.numpy()

    assert np.array_equal(stored(1), stored(1)) and not np.array_equal(stored(1), stored(2))
    config = KernelDensity(sigma=2.0, max_points=80, seed=3).get_config()
    assert (config["sigma"], config["max_points"], config["seed"]) == (2.0, 80, 3)


def test_inner_images_are_flattened(data):
    scores = np.eye(CLASSES, dtype="float32")[[0, 1]]
    flat, square = fitted(data), KernelDensity()
    square.adapt(data[0].reshape(-1, 2, 3), data[1])
    np.testing.assert_array_equal(square(data[2][:2].reshape(2, 2, 3), scores), flat(data[2][:2], scores))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"sigma": 0}, "`sigma` must be a finite number above 0. Received: 0"),
        ({"sigma": None}, "`sigma` must be a finite number above 0. Received: None"),
        ({"sigma": 1e-20}, "`sigma` must have a square that float32 can hold"),
        ({"sigma": float("nan")}, "`sigma` must be a finite number above 0"),
        ({"max_points": 1}, "`max_points` must be a whole number of at least 2. Received: 1"),
        ({"max_points": None}, "`max_points` must be a whole number.*pass the number of training samples"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        KernelDensity(**options)


@pytest.mark.parametrize(
    "features, labels, message",
    [
        (np.zeros((4, 2)), [1, 1, 1, 1], r"at least 2 classes. Received \[1\] alone"),
        (np.zeros((4, 2)), [0.5, 1, 1, 0], "`labels` must hold whole class numbers. Received dtype float64"),
        (np.zeros((4, 2)), [0, np.inf, 1, 0], "`labels` must hold whole class numbers"),
        (np.zeros((0, 2)), [], "Received no samples"),
        (np.zeros((4, 2)), np.eye(4), "shape .4,.. Received shape .4, 4.*argmax"),
        (np.zeros((4, 2)), [0, 1], "one class a sample: shape .4,.. Received shape .2,"),
        (np.zeros((4, 2)), [-1, 0, 0, 1], "`labels` must lie in 0 to 999999. Received values in .-1, 1"),
        ([[1.0], [1.0, 2.0], [0.0], [0.0]], [0, 1, 0, 1], "`features` must all have one width"),
        (np.full((4, 2), np.nan), [0, 1, 0, 1], "`features` must be finite"),
        ([np.zeros((4, 2)), np.zeros((4, 3))], [0, 1, 2, 3], "`labels` must lie in 0 to 2. Received values in .0, 3"),
    ],
)
def test_bad_training_points_are_named(features, labels, message):
    with pytest.raises(ValueError, match=message):
        KernelDensity().adapt(features, np.asarray(labels))


def test_whole_float_labels_are_classes(data):
    layer = KernelDensity()
    layer.adapt(data[0], data[1].astype("float32"))
    np.testing.assert_array_equal(layer(data[2], data[3]), fitted(data)(data[2], data[3]))


def test_other_mistakes_are_named(data):
    layer = fitted(data)
    with pytest.raises(ValueError, match="built for features of width 6. Received width 3"):
        layer.adapt(data[0][:, :3], data[1])
    for width in (3, 12):
        with pytest.raises(ValueError, match=f"built for features of width 6. Received width {width}"):
            layer(np.zeros((2, width), "float32"), data[3][:2])
        with pytest.raises(ValueError, match=f"built for features of width 6. Received width {width}"):
            layer.capping_error(*data[:2], np.zeros((2, width)), data[1][:2])
    with pytest.raises(ValueError, match="holds no points yet"):
        KernelDensity().capping_error(*data[:2], data[2], data[1][:60])
    with pytest.raises(ValueError, match="`max_points` must be at least the 4 classes. Received: 3"):
        KernelDensity(max_points=3).adapt(data[0], data[1])
    with pytest.raises(ValueError, match="one fixed width.*Received shape .None, None"):
        KernelDensity()(keras.Input((None,)), keras.Input((3,)))


_GROWTH = """
import resource
import numpy as np, tensorflow as tf
from tfdefense.layers.scores import kernel_density
rng = np.random.default_rng(0)
features, labels = rng.normal(size=(60_000, 64)).astype("float32"), rng.integers(0, 10, 60_000)
probes, scores = tf.constant(features[:1000] + 0.1), tf.one_hot(labels[:1000], 10)
layer = kernel_density.KernelDensity(2.0, max_points=60_000)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
layer.adapt(features, labels)
before = peak()
with tf.GradientTape() as tape:
    tape.watch(probes)
    density = layer(probes, scores)
assert np.abs(tape.gradient(density, probes).numpy()).max() > 0
print(peak() - before)
"""


def test_memory_does_not_grow_with_sixty_thousand_points():
    given = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", _GROWTH], capture_output=True, text=True, env=given)
    assert not done.returncode, done.stderr
    # All distances at once, in one block, are 240 MB, and more than one such table is at work.
    assert float(done.stdout.splitlines()[-1]) < 200
